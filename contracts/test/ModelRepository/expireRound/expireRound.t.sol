// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Economics} from "../../../src/Economics.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract ExpireRoundTest is Base {
    function test_RevertGiven_TheRoundDoesNotExist() external {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundNotInFlight.selector, 9, IModelRepository.RoundState.None));
        repository.expireRound(9);
    }

    function test_RevertGiven_TheRoundHasEnded() external {
        givenEvaluating();
        report(INITIAL_ERROR);
        vm.warp(block.timestamp + 30 days);
        refuseEnded(IModelRepository.RoundState.Settled);
        vm.warp(block.timestamp - 30 days);
        open();
        passDeadline();
        expire();
        refuseEnded(IModelRepository.RoundState.Failed);
    }

    function test_RevertGiven_TheWindowIsOpen() external {
        givenSubmitting();
        refuseEarly();
        submitAll();
        refuseEarly();
        accept();
        refuseEarly();
        unlockAll();
        refuseEarly();
    }

    function test_GivenSubmittingAndNobodySubmitted_ReturnsEveryBond() external {
        givenSubmitting();
        passDeadline();
        expectFailed(IModelRepository.RoundState.Submitting);
        for (uint256 i = 0; i < 3; i++) {
            expectCredit(owners[i], IModelRepository.CreditReason.Bond, BOND);
        }
        expire();
        assertEnded(IModelRepository.RoundState.Failed);
        assertCredits(BOND, BOND, BOND, 0);
    }

    function test_GivenSubmittingAndOneSilent_SplitsItsBond() external {
        givenSubmitting();
        submitAs(0);
        submitAs(2);
        passDeadline();
        uint256 half = uint256(BOND) / 2;
        expectFailed(IModelRepository.RoundState.Submitting);
        expectCredit(owners[0], IModelRepository.CreditReason.Bond, BOND);
        expectCredit(owners[0], IModelRepository.CreditReason.Forfeit, half);
        expectCredit(owners[2], IModelRepository.CreditReason.Bond, BOND);
        expectCredit(owners[2], IModelRepository.CreditReason.Forfeit, BOND - half);
        expire();
        assertEnded(IModelRepository.RoundState.Failed);
        assertCredits(BOND + half, 0, BOND + (BOND - half), 0);
    }

    function test_GivenSubmittingAndTwoSilent_OneGetsBothBonds() external {
        givenSubmitting();
        submitAs(1);
        passDeadline();
        expire();
        assertEnded(IModelRepository.RoundState.Failed);
        assertCredits(0, 3 * uint256(BOND), 0, 0);
    }

    function test_GivenAccepting_ReturnsEveryBond() external {
        givenAccepting();
        passDeadline();
        expectFailed(IModelRepository.RoundState.Accepting);
        expire();
        assertEnded(IModelRepository.RoundState.Failed);
        assertCredits(BOND, BOND, BOND, 0);
    }

    function test_GivenUnlockingAndNobodyUnlocked_TheLenderGetsTheBonds() external {
        givenUnlocking();
        passDeadline();
        expectUnlockFailed();
        expectCredit(lender, IModelRepository.CreditReason.Forfeit, 3 * uint256(BOND));
        expire();
        assertEnded(IModelRepository.RoundState.UnlockFailed);
        assertCredits(0, 0, 0, 3 * uint256(BOND));
    }

    function test_GivenUnlockingAndOneSilent_SplitsItsBond() external {
        givenUnlocking();
        unlockAs(1);
        unlockAs(2);
        passDeadline();
        uint256 half = uint256(BOND) / 2;
        expectUnlockFailed();
        expire();
        assertEnded(IModelRepository.RoundState.UnlockFailed);
        assertCredits(0, BOND + half, BOND + (BOND - half), 0);
    }

    function test_GivenUnlockingAndTwoSilent_OneGetsBothBonds() external {
        givenUnlocking();
        unlockAs(0);
        passDeadline();
        expire();
        assertEnded(IModelRepository.RoundState.UnlockFailed);
        assertCredits(3 * uint256(BOND), 0, 0, 0);
    }

    function test_GivenEvaluating_TheLenderPaysAsIfTheTargetHadBeenReached() external {
        givenEvaluating();
        report(200_000_000);
        uint256 earned = Economics.progress(BOUNTY, INITIAL_ERROR, TARGET_ERROR, 200_000_000);
        uint256[3] memory before;
        for (uint256 i = 0; i < 3; i++) {
            before[i] = repository.creditOf(owners[i]);
        }
        open();
        submitAll();
        accept();
        unlockAll();
        passDeadline();
        uint256 pool = BOUNTY - earned + BASE_FEE;
        vm.expectEmit(address(repository));
        emit IModelRepository.RoundDefaulted(roundId, modelId, cohortId, pool);
        expectCredit(owners[0], IModelRepository.CreditReason.Reward, Economics.share(pool, 0, 1000, 5103));
        expectCredit(owners[1], IModelRepository.CreditReason.Reward, Economics.share(pool, 1000, 1701, 5103));
        expectCredit(owners[2], IModelRepository.CreditReason.Reward, Economics.share(pool, 2701, 2402, 5103));
        vm.expectEmit(address(repository));
        emit IModelRepository.CohortClosed(modelId, cohortId);
        expire();

        assertRoundState(IModelRepository.RoundState.Defaulted);
        assertModelState(IModelRepository.ModelState.Defaulted);
        vm.assertFalse(repository.model(modelId).isTrained, "not trained");
        vm.assertEq(repository.model(modelId).roundsPaid, 2, "rounds paid");
        vm.assertEq(repository.model(modelId).escrow, 2 * uint256(BASE_FEE), "unused base fees");
        assertCredit(owners[0], before[0] + Economics.share(pool, 0, 1000, 5103) + BOND, "first");
        assertCredit(owners[1], before[1] + Economics.share(pool, 1000, 1701, 5103) + BOND, "second");
        assertCredit(owners[2], before[2] + Economics.share(pool, 2701, 2402, 5103) + BOND, "third");
        assertConserved();
    }

    function test_GivenAFailedRound_AnotherCohortGoesOn() external {
        givenSubmitting();
        passDeadline();
        expire();
        cohortId = repository.model(modelId).formingCohortId;
        joinAll();
        open();
        assertRoundState(IModelRepository.RoundState.Submitting);
    }

    function test_GivenTheTrainingDeadlineHasPassed_WorksAllTheSame() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.trainingDeadline = uint64(block.timestamp + 1);
        givenModel(terms);
        joinAll();
        open();
        submitAs(0);
        passDeadline();
        expire();
        assertEnded(IModelRepository.RoundState.Failed);
        assertModelState(IModelRepository.ModelState.Expired);
    }

    function test_GivenTheLargestCohort_FitsABlock() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.cohortSize = 64;
        terms.rowCap = type(uint32).max;
        delete owners;
        for (uint256 i = 0; i < 64; i++) {
            owners.push(vm.addr(1000 + i));
            vm.deal(owners[i], 1 ether);
        }
        givenModel(terms);
        joinAll();
        open();
        submitAll();
        accept();
        for (uint256 i = 1; i < 64; i++) {
            unlockAs(i);
        }
        passDeadline();
        uint256 before = gasleft();
        expire();
        vm.assertLe(before - gasleft(), 5_000_000, "gas of paying 63 members twice");
        assertEnded(IModelRepository.RoundState.UnlockFailed);
        assertConserved();
    }

    function expire() private {
        vm.prank(stranger);
        repository.expireRound(roundId);
    }

    function expectFailed(IModelRepository.RoundState from) private {
        vm.expectEmit(address(repository));
        emit IModelRepository.RoundFailed(roundId, modelId, cohortId, from);
        vm.expectEmit(address(repository));
        emit IModelRepository.CohortClosed(modelId, cohortId);
    }

    function expectUnlockFailed() private {
        vm.expectEmit(address(repository));
        emit IModelRepository.RoundUnlockFailed(roundId, modelId, cohortId);
        vm.expectEmit(address(repository));
        emit IModelRepository.CohortClosed(modelId, cohortId);
    }

    function assertEnded(IModelRepository.RoundState state) private view {
        assertRoundState(state);
        vm.assertTrue(repository.cohort(cohortId).isClosed, "cohort closed");
        vm.assertEq(repository.cohort(cohortId).roundInFlight, 0, "the cohort's round");
        vm.assertEq(repository.model(modelId).roundInFlight, 0, "the model's round");
        vm.assertEq(repository.model(modelId).roundsPaid, 0, "rounds paid");
        vm.assertEq(repository.model(modelId).escrow, ESCROW, "escrow untouched");
        (, uint256 bonds,) = repository.totals();
        vm.assertEq(bonds, 0, "no bond stays");
    }

    function assertCredits(uint256 first, uint256 second, uint256 third, uint256 lenders) private view {
        assertCredit(owners[0], first, "first");
        assertCredit(owners[1], second, "second");
        assertCredit(owners[2], third, "third");
        assertCredit(lender, lenders, "lender");
        assertConserved();
    }

    function refuseEnded(IModelRepository.RoundState state) private {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundNotInFlight.selector, roundId, state));
        repository.expireRound(roundId);
    }

    function refuseEarly() private {
        uint64 deadline = repository.round(roundId).deadline;
        uint256 present = block.timestamp;
        vm.warp(deadline);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_DeadlineNotPassed.selector, roundId, deadline));
        repository.expireRound(roundId);
        vm.warp(present);
    }
}
