// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelDeployment} from "../../../src/ModelDeployment.sol";
import {ModelRepository} from "../../../src/ModelRepository.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {ServingBase} from "../ServingBase.sol";

contract ServingConstructorTest is ServingBase {
    function test_RevertWhen_TheRepositoryIsNoContract() external {
        vm.expectRevert();
        new ModelDeployment(IModelRepository(stranger));
    }

    function test_RevertWhen_TheRepositoryIsAnotherContract() external {
        vm.expectRevert();
        new ModelDeployment(IModelRepository(address(this)));
    }

    function test_RevertWhen_EtherComesWithoutACall() external {
        vm.prank(stranger);
        (bool isTaken,) = address(deployments).call{value: 1 ether}("");
        vm.assertFalse(isTaken, "plain ether");
    }

    function test_KeepsTheRepositoryAndItsMinimumWindow() external {
        vm.assertEq(address(deployments.repository()), address(repository), "repository");
        vm.assertEq(deployments.minimumWindow(), MINIMUM_WINDOW, "minimum window");
        vm.assertEq(new ModelDeployment(new ModelRepository(7 days)).minimumWindow(), 7 days, "another repository's");
        vm.assertEq(deployments.deploymentCount(), 0, "no deployments yet");
        vm.assertEq(deployments.requestCount(), 0, "no requests yet");
    }
}
