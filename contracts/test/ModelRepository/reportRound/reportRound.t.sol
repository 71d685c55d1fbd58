// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Economics} from "../../../src/Economics.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract ReportRoundTest is Base {
    uint64 private constant HALF_WAY = 200_000_000;

    function test_RevertGiven_TheRoundDoesNotExist() external {
        roundId = 9;
        refuseState(IModelRepository.RoundState.None);
    }

    function test_RevertGiven_TheRoundIsNotEvaluating() external {
        givenSubmitting();
        refuseState(IModelRepository.RoundState.Submitting);
        submitAll();
        refuseState(IModelRepository.RoundState.Accepting);
        accept();
        refuseState(IModelRepository.RoundState.Unlocking);
        unlockAll();
        report(HALF_WAY);
        refuseState(IModelRepository.RoundState.Settled);
    }

    function test_RevertGiven_TheWindowIsOver() external {
        givenEvaluating();
        uint64 deadline = repository.round(roundId).deadline;
        passDeadline();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_DeadlinePassed.selector, roundId, deadline));
        report(HALF_WAY);
    }

    function test_RevertWhen_CallerIsNotTheLender() external {
        givenEvaluating();
        vm.prank(stranger);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotLender.selector, modelId, stranger));
        repository.reportRound(roundId, HALF_WAY, NEW_WEIGHTS, REPORT);
    }

    function test_RevertWhen_ADigestIsZero() external {
        givenEvaluating();
        vm.startPrank(lender);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "newWeightsDigest"));
        repository.reportRound(roundId, HALF_WAY, bytes32(0), REPORT);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "reportDigest"));
        repository.reportRound(roundId, HALF_WAY, NEW_WEIGHTS, bytes32(0));
    }

    function test_WhenNotBetter_PaysTheBaseFeeOnly() external {
        givenEvaluating();
        expectSettled(INITIAL_ERROR + 1, 0, IModelRepository.ModelState.Open);
        report(INITIAL_ERROR + 1);
        vm.assertEq(repository.model(modelId).bestError, INITIAL_ERROR, "best error");
        vm.assertEq(repository.model(modelId).weightsDigest, NEW_WEIGHTS, "weights are always set");
        vm.assertEq(repository.model(modelId).roundsPaid, 1, "rounds paid");
        assertPaid(BASE_FEE);
    }

    function test_WhenBetter_PaysByRows() external {
        givenEvaluating();
        uint256 reward = Economics.progress(BOUNTY, INITIAL_ERROR, TARGET_ERROR, HALF_WAY);
        uint256 pool = reward + BASE_FEE;
        expectSettled(HALF_WAY, reward, IModelRepository.ModelState.Open);
        expectCredit(owners[0], IModelRepository.CreditReason.Reward, (pool * 1000) / 5103);
        expectCredit(owners[1], IModelRepository.CreditReason.Reward, (pool * 2701) / 5103 - (pool * 1000) / 5103);
        expectCredit(owners[2], IModelRepository.CreditReason.Reward, pool - (pool * 2701) / 5103);
        report(HALF_WAY);

        assertRoundState(IModelRepository.RoundState.Settled);
        vm.assertEq(repository.model(modelId).bestError, HALF_WAY, "best error");
        vm.assertFalse(repository.cohort(cohortId).isClosed, "the cohort goes on");
        vm.assertEq(repository.cohort(cohortId).roundInFlight, 0, "the cohort's round");
        vm.assertEq(repository.model(modelId).roundInFlight, 0, "the model's round");
        (, uint256 bonds,) = repository.totals();
        vm.assertEq(bonds, 3 * uint256(BOND), "bonds stay");
        assertPaid(pool);
    }

    function test_WhenBetter_PaysEqually() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.splitRule = IModelRepository.SplitRule.Equal;
        givenEvaluatingWith(terms);
        report(HALF_WAY);
        uint256 pool = Economics.progress(BOUNTY, INITIAL_ERROR, TARGET_ERROR, HALF_WAY) + BASE_FEE;
        assertCredit(owners[0], pool / 3, "first");
        assertCredit(owners[1], (pool * 2) / 3 - pool / 3, "second");
        assertCredit(owners[2], pool - (pool * 2) / 3, "third");
        assertPaid(pool);
    }

    function test_WhenAtOrBelowTheTarget_PaysTheWholeBountyAndIsTrained() external {
        uint64[2] memory errors = [TARGET_ERROR, 0];
        for (uint256 i = 0; i < 2; i++) {
            setUpAgain();
            expectSettled(errors[i], BOUNTY, IModelRepository.ModelState.Trained);
            report(errors[i]);
            assertModelState(IModelRepository.ModelState.Trained);
            vm.assertTrue(repository.model(modelId).isTrained, "trained");
            vm.assertEq(repository.model(modelId).bestError, errors[i], "best error");
            assertPaid(uint256(BOUNTY) + BASE_FEE);
        }
    }

    function test_GivenTheLastPaidRound_IsExhausted() external {
        givenSealedCohort();
        for (uint64 i = 1; i <= MAX_ROUNDS; i++) {
            assertModelState(IModelRepository.ModelState.Open);
            runRound(INITIAL_ERROR - i);
        }
        assertModelState(IModelRepository.ModelState.Exhausted);
        vm.assertFalse(repository.model(modelId).isTrained, "not trained");
        vm.assertEq(repository.model(modelId).roundsPaid, MAX_ROUNDS, "rounds paid");
    }

    function test_GivenTheLastPaidRoundReachesTheTarget_IsTrained() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.maxRounds = 1;
        givenEvaluatingWith(terms);
        report(TARGET_ERROR);
        assertModelState(IModelRepository.ModelState.Trained);
        vm.assertEq(repository.model(modelId).escrow, 0, "nothing is left");
    }

    function test_GivenTheTrainingDeadlinePassed_TheRoundInFlightSettles() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.trainingDeadline = uint64(block.timestamp + 1);
        givenEvaluatingWith(terms);
        vm.warp(block.timestamp + 2);
        assertModelState(IModelRepository.ModelState.Expired);
        report(TARGET_ERROR);
        assertModelState(IModelRepository.ModelState.Trained);
        assertPaid(uint256(BOUNTY) + BASE_FEE);
    }

    function testFuzz_GivenAnyPath_TheRewardsAddUpToTheProgress(uint64[MAX_ROUNDS] calldata errors) external {
        givenSealedCohort();
        uint64 best = INITIAL_ERROR;
        uint256 paidRounds = 0;
        for (uint256 i = 0; i < MAX_ROUNDS && best > TARGET_ERROR; i++) {
            uint64 newError = uint64(bound(errors[i], TARGET_ERROR - 1_000_000, INITIAL_ERROR + 1_000_000));
            runRound(newError);
            paidRounds += 1;
            if (newError < best) best = newError;
        }
        vm.assertEq(repository.model(modelId).bestError, best, "best error");
        assertPaid(Economics.progress(BOUNTY, INITIAL_ERROR, TARGET_ERROR, best) + paidRounds * BASE_FEE);
    }

    function test_GivenTheLargestCohort_SettlingFitsABlock() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.cohortSize = 64;
        delete owners;
        for (uint256 i = 0; i < 64; i++) {
            owners.push(vm.addr(1000 + i));
            vm.deal(owners[i], 1 ether);
        }
        terms.rowCap = type(uint32).max;
        givenEvaluatingWith(terms);
        uint256 before = gasleft();
        report(HALF_WAY);
        vm.assertLe(before - gasleft(), 5_000_000, "gas of settling 64 members");
        assertConserved();
    }

    function setUpAgain() private {
        delete owners;
        setUp();
        givenEvaluating();
    }

    function givenEvaluatingWith(IModelRepository.Terms memory terms) private {
        givenModel(terms);
        joinAll();
        open();
        submitAll();
        accept();
        unlockAll();
    }

    function runRound(uint64 newError) private {
        open();
        submitAll();
        accept();
        unlockAll();
        report(newError);
    }

    function expectSettled(uint64 newError, uint256 reward, IModelRepository.ModelState state) private {
        vm.expectEmit(address(repository));
        emit IModelRepository.RoundSettled(roundId, modelId, cohortId, newError, NEW_WEIGHTS, REPORT, reward, reward + BASE_FEE, state);
    }

    function assertPaid(uint256 paid) private view {
        uint256 total = 0;
        for (uint256 i = 0; i < owners.length; i++) {
            total += repository.creditOf(owners[i]);
        }
        vm.assertEq(total, paid, "paid to the cohort");
        IModelRepository.Terms memory terms = repository.model(modelId).terms;
        uint256 deposited = terms.bounty + uint256(terms.baseFee) * terms.maxRounds;
        vm.assertEq(repository.model(modelId).escrow, deposited - paid, "escrow left");
        assertConserved();
    }

    function refuseState(IModelRepository.RoundState state) private {
        refused(
            abi.encodeWithSelector(
                IModelRepository.ModelRepository_RoundNotIn.selector, IModelRepository.RoundState.Evaluating, roundId, state
            )
        );
        report(HALF_WAY);
    }
}
