// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract LeaveTest is Base {
    function test_RevertWhen_TheCallerIsNoMember() external {
        givenSealedCohort();
        vm.prank(stranger);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotMember.selector, cohortId, stranger));
        repository.leave(cohortId);
    }

    function test_RevertGiven_TheCohortIsClosed() external {
        givenSealedCohort();
        leaveAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_CohortAlreadyClosed.selector, cohortId));
        leaveAs(1);
    }

    function test_RevertGiven_TheSubmitWindowIsOver() external {
        givenSubmitting();
        uint64 deadline = repository.round(roundId).deadline;
        passDeadline();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_DeadlinePassed.selector, roundId, deadline));
        leaveAs(0);
    }

    function test_RevertGiven_TheCallerHasSubmitted() external {
        givenSubmitting();
        submitAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_AlreadySubmitted.selector, roundId, owners[0]));
        leaveAs(0);
    }

    function test_RevertGiven_TheRoundIsPastSubmitting() external {
        givenAccepting();
        refuseLeaving();
        accept();
        refuseLeaving();
        unlockAll();
        refuseLeaving();
    }

    function test_GivenSubmittingAndNotSubmitted_FailsTheRoundUnharmed() external {
        givenSubmitting();
        submitAs(0);
        vm.warp(repository.round(roundId).deadline);
        vm.expectEmit(address(repository));
        emit IModelRepository.RoundFailed(roundId, modelId, cohortId, IModelRepository.RoundState.Submitting);
        vm.expectEmit(address(repository));
        emit IModelRepository.CohortClosed(modelId, cohortId);
        for (uint256 i = 0; i < 3; i++) {
            expectCredit(owners[i], IModelRepository.CreditReason.Bond, BOND);
        }
        leaveAs(2);

        assertRoundState(IModelRepository.RoundState.Failed);
        vm.assertTrue(repository.cohort(cohortId).isClosed, "cohort closed");
        vm.assertEq(repository.cohort(cohortId).roundInFlight, 0, "the cohort's round");
        vm.assertEq(repository.model(modelId).roundInFlight, 0, "the model's round");
        vm.assertEq(repository.model(modelId).roundsPaid, 0, "rounds paid");
        vm.assertEq(repository.model(modelId).escrow, ESCROW, "escrow untouched");
        assertEveryBondCredited();
        assertConserved();
    }

    function test_GivenForming_TheLastTakesTheLeaversPlace() external {
        givenModel();
        joinAs(0);
        joinAs(1);
        vm.expectEmit(address(repository));
        emit IModelRepository.MemberLeft(modelId, cohortId, owners[0]);
        expectCredit(owners[0], IModelRepository.CreditReason.Bond, BOND);
        leaveAs(0);

        IModelRepository.Cohort memory forming = repository.cohort(cohortId);
        vm.assertEq(forming.members.length, 1, "members");
        vm.assertEq(forming.members[0].account, owners[1], "the last moved");
        vm.assertEq(forming.totalRows, rowsOf(1), "total rows");
        vm.assertFalse(forming.isClosed, "still forming");
        assertCredit(owners[0], BOND, "the leaver's bond");
        assertCredit(owners[1], 0, "the other's stays");
        (, uint256 bonds,) = repository.totals();
        vm.assertEq(bonds, BOND, "bonds held");
        assertConserved();
    }

    function test_GivenForming_TheMovedMemberKeepsItsPowers() external {
        givenModel();
        joinAs(0);
        joinAs(1);
        leaveAs(0);
        joinAs(2);
        joinAs(0); // the same address and key come back, in the last place
        vm.assertTrue(repository.cohort(cohortId).isSealed, "sealed");
        open();
        bytes32 commitment = keccak256("commitment");
        vm.expectEmit(address(repository));
        emit IModelRepository.GradientSubmitted(roundId, owners[1], 0, gradientOf(1), commitment);
        vm.prank(owners[1]);
        repository.submitGradient(roundId, gradientOf(1), commitment);
        vm.expectEmit(address(repository));
        emit IModelRepository.GradientSubmitted(roundId, owners[0], 2, gradientOf(0), commitment);
        vm.prank(owners[0]);
        repository.submitGradient(roundId, gradientOf(0), commitment);
    }

    function test_GivenForming_TheOnlyMemberLeavesAnEmptyCohort() external {
        givenModel();
        joinAs(0);
        leaveAs(0);
        vm.assertEq(repository.cohort(cohortId).members.length, 0, "members");
        vm.assertEq(repository.cohort(cohortId).totalRows, 0, "total rows");
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotMember.selector, cohortId, owners[0]));
        leaveAs(0);
    }

    function test_GivenSealedAndIdle_ClosesTheCohort() external {
        givenEvaluating();
        report(200_000_000);
        uint256 earned = repository.creditOf(owners[1]);
        vm.expectEmit(address(repository));
        emit IModelRepository.CohortClosed(modelId, cohortId);
        leaveAs(0);
        assertCredit(owners[1], earned + BOND, "reward and bond");
        assertModelState(IModelRepository.ModelState.Open);
        assertConserved();
    }

    function test_GivenTheModelHasEnded_BondsComeBack() external {
        givenSealedCohort();
        uint256 sealedCohort = cohortId;
        cohortId = repository.model(modelId).formingCohortId;
        joinAs(0);
        vm.prank(lender);
        repository.closeModel(modelId);
        vm.warp(block.timestamp + 1000 days);

        leaveAs(0);
        assertCredit(owners[0], BOND, "from the forming cohort");
        cohortId = sealedCohort;
        leaveAs(1);
        assertCredit(owners[0], 2 * uint256(BOND), "from both");
        assertCredit(owners[2], BOND, "without its own doing");
        assertConserved();
    }

    function refuseLeaving() private {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundInFlight.selector, roundId));
        leaveAs(0);
    }

    function assertEveryBondCredited() private view {
        for (uint256 i = 0; i < 3; i++) {
            assertCredit(owners[i], BOND, "bond");
        }
    }
}
