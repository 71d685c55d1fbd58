// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelDeployment} from "../../../src/interfaces/IModelDeployment.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {ServingBase} from "../ServingBase.sol";

contract DeployTest is ServingBase {
    function test_RevertWhen_TheModelDoesNotExist() external {
        refuseDeploy(lender, 9, ANSWER_WINDOW, abi.encodeWithSelector(IModelDeployment.ModelDeployment_NotModelLender.selector, 9, lender));
    }

    function testFuzz_RevertWhen_TheCallerIsNotTheModelsLender(address caller) external {
        vm.assume(caller != lender);
        bytes memory reason = abi.encodeWithSelector(IModelDeployment.ModelDeployment_NotModelLender.selector, modelId, caller);
        refuseDeploy(caller, modelId, ANSWER_WINDOW, reason);
    }

    function test_RevertGiven_TheModelIsOpenOrExpired() external {
        givenEvaluating();
        report(TARGET_ERROR + 1);
        refuseUntrained(IModelRepository.ModelState.Open);
        vm.warp(block.timestamp + 31 days);
        refuseUntrained(IModelRepository.ModelState.Expired);
    }

    function test_RevertGiven_TheModelIsExhausted() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.maxRounds = 1;
        givenModel(terms);
        joinAll();
        open();
        submitAll();
        accept();
        unlockAll();
        report(TARGET_ERROR + 1);
        refuseUntrained(IModelRepository.ModelState.Exhausted);
    }

    function test_RevertGiven_TheModelDefaulted() external {
        givenEvaluating();
        passDeadline();
        repository.expireRound(roundId);
        refuseUntrained(IModelRepository.ModelState.Defaulted);
    }

    function test_RevertGiven_TheModelWasCancelled() external {
        givenModel();
        close();
        refuseUntrained(IModelRepository.ModelState.Cancelled);
    }

    function test_RevertWhen_TheScoringDigestIsZero() external {
        vm.prank(lender);
        refuseEmpty("scoringDigest");
        deployments.deploy(modelId, bytes32(0), FEE, ANSWER_WINDOW);
    }

    function testFuzz_RevertWhen_TheWindowIsTooShort(uint32 window) external {
        refuseWindow(uint32(bound(window, 0, MINIMUM_WINDOW - 1)));
    }

    function testFuzz_RevertWhen_TheWindowIsTooLong(uint32 window) external {
        refuseWindow(uint32(bound(window, 14 days + 1, type(uint32).max)));
    }

    function test_RevertWhen_TheWindowIsOneSecondOff() external {
        refuseWindow(MINIMUM_WINDOW - 1);
        refuseWindow(14 days + 1);
    }

    function test_RevertWhen_EtherComesWithTheCall() external {
        vm.prank(lender);
        (bool isTaken,) =
            address(deployments).call{value: 1}(abi.encodeCall(IModelDeployment.deploy, (modelId, SCORING, FEE, ANSWER_WINDOW)));
        vm.assertFalse(isTaken, "a deployment costs nothing");
    }

    function test_GivenTheModelIsClosed_DeploysAllTheSame() external {
        close();
        givenDeployment();
        ask();
        answer();
        assertHeld(0, FEE, 0);
    }

    function test_GivenAnotherDeployment_LeavesItAlone() external {
        givenDeployment();
        bytes32 first = keccak256(abi.encode(deployments.deployment(1)));
        givenDeployment(FEE + 1);
        vm.assertEq(deploymentId, 2, "second id");
        vm.assertEq(deployments.deploymentCount(), 2, "deployments");
        vm.assertEq(deployments.deployment(2).fee, FEE + 1, "its own fee");
        vm.assertEq(keccak256(abi.encode(deployments.deployment(1))), first, "the first is unchanged");
    }

    function testFuzz_WhenFeeAndWindowAreInRange_Deploys(uint128 fee, uint32 window) external {
        deployAt(fee, uint32(bound(window, MINIMUM_WINDOW, 14 days)));
    }

    function test_WhenEverythingIsAtItsEdge_Deploys() external {
        deployAt(0, MINIMUM_WINDOW);
        deployAt(type(uint128).max, 14 days);
    }

    function test_DeploysTheModelsLastWeights() external {
        vm.expectEmit(address(deployments));
        emit IModelDeployment.ModelDeployed(1, modelId, lender, NEW_WEIGHTS, SCORING, FEE, ANSWER_WINDOW);
        givenDeployment();

        IModelDeployment.Deployment memory created = deployments.deployment(1);
        vm.assertEq(deploymentId, 1, "first id");
        vm.assertEq(deployments.deploymentCount(), 1, "deployments");
        vm.assertEq(created.modelId, modelId, "model");
        vm.assertEq(created.lender, lender, "lender");
        vm.assertFalse(created.isRetired, "not retired");
        vm.assertEq(created.answerWindow, ANSWER_WINDOW, "window");
        vm.assertEq(created.fee, FEE, "fee");
        vm.assertEq(created.weightsDigest, NEW_WEIGHTS, "weights");
        vm.assertEq(created.scoringDigest, SCORING, "scoring");
        assertHeld(0, 0, 0);
    }

    function close() private {
        vm.prank(lender);
        repository.closeModel(modelId);
    }

    function deployAt(uint128 fee, uint32 window) private {
        vm.prank(lender);
        uint256 id = deployments.deploy(modelId, SCORING, fee, window);
        vm.assertEq(deployments.deployment(id).fee, fee, "fee");
        vm.assertEq(deployments.deployment(id).answerWindow, window, "window");
    }

    function refuseUntrained(IModelRepository.ModelState state) private {
        assertModelState(state);
        bytes memory reason = abi.encodeWithSelector(IModelDeployment.ModelDeployment_ModelNotTrained.selector, modelId);
        refuseDeploy(lender, modelId, ANSWER_WINDOW, reason);
    }

    function refuseWindow(uint32 window) private {
        bytes memory reason =
            abi.encodeWithSelector(IModelDeployment.ModelDeployment_WindowOutOfRange.selector, window, MINIMUM_WINDOW, 14 days);
        refuseDeploy(lender, modelId, window, reason);
    }

    function refuseDeploy(address caller, uint256 id, uint32 window, bytes memory reason) private {
        vm.prank(caller);
        refused(reason);
        deployments.deploy(id, SCORING, FEE, window);
        vm.assertEq(deployments.deploymentCount(), 0, "nothing deployed");
    }
}
