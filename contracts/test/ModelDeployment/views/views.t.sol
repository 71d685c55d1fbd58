// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelDeployment} from "../../../src/interfaces/IModelDeployment.sol";
import {ServingBase} from "../ServingBase.sol";

contract ViewsTest is ServingBase {
    function test_GivenUnknownIds_TheRecordsAreEmpty() external {
        givenWaiting();
        IModelDeployment.Deployment memory noDeployment;
        IModelDeployment.Request memory noRequest;
        for (uint256 id = 0; id <= 2; id += 2) {
            vm.assertEq(keccak256(abi.encode(deployments.deployment(id))), keccak256(abi.encode(noDeployment)), "deployment");
            vm.assertEq(keccak256(abi.encode(deployments.request(id))), keccak256(abi.encode(noRequest)), "request");
        }
        vm.assertEq(deployments.creditOf(address(7)), 0, "credit");
    }

    function test_GivenRequestsInEveryState_TheyAddUp() external {
        givenExpired();
        givenAnswered();
        givenWaiting();
        ask();
        vm.assertEq(deployments.deploymentCount(), 3, "deployments");
        vm.assertEq(deployments.requestCount(), 4, "requests");
        assertHeld(2 * uint256(FEE), FEE, FEE);
    }

    function test_GivenForcedEther_TheTotalsDoNotCountIt() external {
        givenWaiting();
        vm.deal(address(deployments), address(deployments).balance + 1 ether);
        (uint256 fees, uint256 credits) = deployments.totals();
        vm.assertEq(fees, FEE, "fees");
        vm.assertEq(credits, 0, "credits");
    }
}
