// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelDeployment} from "../../../src/interfaces/IModelDeployment.sol";
import {ServingBase} from "../ServingBase.sol";

contract RetireTest is ServingBase {
    function test_RevertWhen_TheDeploymentDoesNotExist() external {
        deploymentId = 9;
        refuseNotLender(lender);
        retire();
    }

    function testFuzz_RevertWhen_TheCallerIsNotTheLender(address caller) external {
        vm.assume(caller != lender);
        givenDeployment();
        vm.prank(caller);
        refuseNotLender(caller);
        deployments.retire(deploymentId);
        vm.assertFalse(deployments.deployment(deploymentId).isRetired, "still serving");
    }

    function test_RevertGiven_TheDeploymentIsRetired() external {
        givenRetired();
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_AlreadyRetired.selector, deploymentId));
        retire();
    }

    function test_GivenAnotherDeployment_LeavesItServing() external {
        givenRetired();
        givenWaiting();
        assertRequestState(IModelDeployment.RequestState.Waiting);
        vm.assertTrue(deployments.deployment(deploymentId - 1).isRetired, "the first");
        vm.assertFalse(deployments.deployment(deploymentId).isRetired, "the second");
    }

    function test_StopsNewRequestsOnly() external {
        givenWaiting();
        IModelDeployment.Deployment memory before = deployments.deployment(deploymentId);
        vm.expectEmit(address(deployments));
        emit IModelDeployment.DeploymentRetired(deploymentId);
        retire();

        before.isRetired = true;
        vm.assertEq(keccak256(abi.encode(deployments.deployment(deploymentId))), keccak256(abi.encode(before)), "only this changed");
        assertRequestState(IModelDeployment.RequestState.Waiting);
        assertHeld(FEE, 0, 0);
        vm.prank(borrower);
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_NotServing.selector, deploymentId));
        deployments.requestScore{value: FEE}(deploymentId, QUERY);
    }
}
