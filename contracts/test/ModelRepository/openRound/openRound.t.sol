// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract OpenRoundTest is Base {
    function test_RevertWhen_TheCohortDoesNotExist() external {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotLender.selector, 0, lender));
        open();
    }

    function test_RevertWhen_CallerIsNotTheLender() external {
        givenSealedCohort();
        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotLender.selector, modelId, owners[0]));
        repository.openRound(cohortId);
    }

    function test_RevertGiven_TheModelIsExpired() external {
        givenSealedCohort();
        vm.warp(block.timestamp + 30 days + 1);
        refused(
            abi.encodeWithSelector(IModelRepository.ModelRepository_ModelNotOpen.selector, modelId, IModelRepository.ModelState.Expired)
        );
        open();
    }

    function test_RevertGiven_TheModelIsTrained() external {
        givenEvaluating();
        report(TARGET_ERROR);
        refused(
            abi.encodeWithSelector(IModelRepository.ModelRepository_ModelNotOpen.selector, modelId, IModelRepository.ModelState.Trained)
        );
        open();
    }

    function test_RevertGiven_EveryRoundIsPaid() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.maxRounds = 1;
        givenModel(terms);
        joinAll();
        open();
        submitAll();
        accept();
        unlockAll();
        report(INITIAL_ERROR);
        refused(
            abi.encodeWithSelector(IModelRepository.ModelRepository_ModelNotOpen.selector, modelId, IModelRepository.ModelState.Exhausted)
        );
        open();
    }

    function test_RevertGiven_TheCohortIsForming() external {
        givenModel();
        joinAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_CohortNotSealed.selector, cohortId));
        open();
    }

    function test_RevertGiven_TheCohortIsClosed() external {
        givenSealedCohort();
        leaveAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_CohortAlreadyClosed.selector, cohortId));
        open();
    }

    function test_RevertGiven_ARoundIsInFlight() external {
        givenSubmitting();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundInFlight.selector, roundId));
        open();
    }

    function test_RevertGiven_ARoundOfAnotherCohortIsInFlight() external {
        givenSubmitting();
        uint256 inFlight = roundId;
        cohortId = repository.model(modelId).formingCohortId;
        joinAll();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundInFlight.selector, inFlight));
        open();
    }

    function test_FixesTheWeightsAndWaitsForSubmissions() external {
        givenSealedCohort();
        uint64 deadline = uint64(block.timestamp) + 100;
        vm.expectEmit(address(repository));
        emit IModelRepository.RoundOpened(1, modelId, cohortId, WEIGHTS, deadline);
        open();

        IModelRepository.Round memory opened = repository.round(roundId);
        vm.assertEq(roundId, 1, "first id");
        vm.assertEq(opened.modelId, modelId, "model");
        vm.assertEq(opened.cohortId, cohortId, "cohort");
        vm.assertEq(opened.deadline, deadline, "deadline");
        vm.assertEq(opened.weightsDigest, WEIGHTS, "weights");
        vm.assertEq(opened.submissions.length, 3, "a submission per member");
        vm.assertEq(repository.model(modelId).roundInFlight, roundId, "the model's round");
        vm.assertEq(repository.cohort(cohortId).roundInFlight, roundId, "the cohort's round");
        assertRoundState(IModelRepository.RoundState.Submitting);
    }

    function test_GivenASettledRound_TheNextWorksOnItsWeights() external {
        givenEvaluating();
        report(200_000_000);
        open();
        vm.assertEq(roundId, 2, "a new round");
        vm.assertEq(repository.round(roundId).weightsDigest, NEW_WEIGHTS, "weights");
    }
}
