// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../../../src/interfaces/ILedger.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract CreateModelTest is Base {
    function test_RevertWhen_BountyIsZero() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.bounty = 0;
        refuseTerm(terms, "bounty", 0, 1, type(uint128).max);
    }

    function test_RevertWhen_MaxRoundsIsZero() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.maxRounds = 0;
        refuseTerm(terms, "maxRounds", 0, 1, type(uint32).max);
    }

    function test_RevertWhen_RowCapIsZero() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.rowCap = 0;
        refuseTerm(terms, "rowCap", 0, 1, type(uint32).max);
    }

    function test_RevertWhen_CohortSizeIsZeroOrTooLarge() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.cohortSize = 0;
        refuseTerm(terms, "cohortSize", 0, 1, 64);
        terms.cohortSize = 65;
        refuseTerm(terms, "cohortSize", 65, 1, 64);
    }

    function test_RevertWhen_InitialErrorIsNotAboveTheTarget() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.targetError = INITIAL_ERROR;
        refuseTerm(terms, "initialError", INITIAL_ERROR, uint256(INITIAL_ERROR) + 1, type(uint64).max);
        terms.targetError = type(uint64).max;
        refuseTerm(terms, "initialError", INITIAL_ERROR, uint256(type(uint64).max) + 1, type(uint64).max);
    }

    function test_RevertWhen_BondIsBelowTheBaseFee() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.memberBond = BASE_FEE - 1;
        refuseTerm(terms, "memberBond", BASE_FEE - 1, BASE_FEE, type(uint128).max);
    }

    function test_RevertWhen_AWindowIsShorterThanTheMinimum() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.submitWindow = MINIMUM_WINDOW - 1;
        refuseTerm(terms, "submitWindow", MINIMUM_WINDOW - 1, MINIMUM_WINDOW, 14 days);
        terms = defaultTerms();
        terms.acceptWindow = MINIMUM_WINDOW - 1;
        refuseTerm(terms, "acceptWindow", MINIMUM_WINDOW - 1, MINIMUM_WINDOW, 14 days);
        terms = defaultTerms();
        terms.unlockWindow = MINIMUM_WINDOW - 1;
        refuseTerm(terms, "unlockWindow", MINIMUM_WINDOW - 1, MINIMUM_WINDOW, 14 days);
        terms = defaultTerms();
        terms.evaluateWindow = MINIMUM_WINDOW - 1;
        refuseTerm(terms, "evaluateWindow", MINIMUM_WINDOW - 1, MINIMUM_WINDOW, 14 days);
    }

    function test_RevertWhen_AWindowIsLongerThanFourteenDays() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.submitWindow = 14 days + 1;
        refuseTerm(terms, "submitWindow", 14 days + 1, MINIMUM_WINDOW, 14 days);
        terms = defaultTerms();
        terms.acceptWindow = 14 days + 1;
        refuseTerm(terms, "acceptWindow", 14 days + 1, MINIMUM_WINDOW, 14 days);
        terms = defaultTerms();
        terms.unlockWindow = 14 days + 1;
        refuseTerm(terms, "unlockWindow", 14 days + 1, MINIMUM_WINDOW, 14 days);
        terms = defaultTerms();
        terms.evaluateWindow = type(uint32).max;
        refuseTerm(terms, "evaluateWindow", type(uint32).max, MINIMUM_WINDOW, 14 days);
    }

    function test_RevertWhen_TheTrainingDeadlineIsNotInTheFuture() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.trainingDeadline = uint64(block.timestamp);
        refuseTerm(terms, "trainingDeadline", block.timestamp, block.timestamp + 1, block.timestamp + 730 days);
    }

    function test_RevertWhen_TheTrainingDeadlineIsTooFar() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.trainingDeadline = uint64(block.timestamp + 730 days + 1);
        refuseTerm(terms, "trainingDeadline", terms.trainingDeadline, block.timestamp + 1, block.timestamp + 730 days);
        terms.trainingDeadline = type(uint64).max;
        refuseTerm(terms, "trainingDeadline", type(uint64).max, block.timestamp + 1, block.timestamp + 730 days);
    }

    function test_RevertWhen_ADigestIsZero() external {
        IModelRepository.Terms memory terms = defaultTerms();
        vm.startPrank(lender);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "manifestDigest"));
        repository.createModel{value: ESCROW}(terms, bytes32(0), WEIGHTS);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "weightsDigest"));
        repository.createModel{value: ESCROW}(terms, MANIFEST, bytes32(0));
    }

    function testFuzz_RevertWhen_TheValueIsNotTheEscrow(uint256 value) external {
        value = bound(value, 0, 50 ether);
        vm.assume(value != ESCROW);
        vm.prank(lender);
        refused(abi.encodeWithSelector(ILedger.Ledger_WrongValue.selector, ESCROW, value));
        repository.createModel{value: value}(defaultTerms(), MANIFEST, WEIGHTS);
    }

    function test_WhenTheTermsAreTheLargest_TheEscrowDoesNotOverflow() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.bounty = type(uint128).max;
        terms.baseFee = type(uint128).max;
        terms.memberBond = type(uint128).max;
        terms.maxRounds = type(uint32).max;
        terms.initialError = type(uint64).max;
        terms.targetError = type(uint64).max - 1;
        uint256 escrow = uint256(type(uint128).max) * (uint256(type(uint32).max) + 1);
        vm.deal(lender, escrow);
        givenModel(terms);
        vm.assertEq(repository.model(modelId).escrow, escrow, "escrow");
        assertConserved();
    }

    function test_WhenEveryTermIsAtItsEdge_CreatesTheModel() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.bounty = 1;
        terms.baseFee = 0;
        terms.memberBond = 0;
        terms.initialError = 1;
        terms.targetError = 0;
        terms.maxRounds = 1;
        terms.cohortSize = 64;
        terms.rowCap = 1;
        terms.submitWindow = MINIMUM_WINDOW;
        terms.acceptWindow = 14 days;
        terms.trainingDeadline = uint64(block.timestamp + 730 days);
        givenModel(terms);
        terms.cohortSize = 1;
        terms.trainingDeadline = uint64(block.timestamp + 1);
        givenModel(terms);
        vm.assertEq(repository.modelCount(), 2, "models");
    }

    function test_CreatesTheModelAndHoldsTheEscrow() external {
        IModelRepository.Terms memory terms = defaultTerms();
        vm.expectEmit(address(repository));
        emit IModelRepository.ModelCreated(1, lender, terms, MANIFEST, WEIGHTS, 1);
        givenModel(terms);

        IModelRepository.Model memory created = repository.model(1);
        vm.assertEq(modelId, 1, "first id");
        vm.assertEq(created.lender, lender, "lender");
        vm.assertEq(uint256(created.state), uint256(IModelRepository.ModelState.Open), "state");
        vm.assertFalse(created.isTrained, "not trained");
        vm.assertFalse(created.isClosed, "not closed");
        vm.assertEq(created.bestError, INITIAL_ERROR, "best error");
        vm.assertEq(created.roundsPaid, 0, "rounds paid");
        vm.assertEq(created.escrow, ESCROW, "escrow");
        vm.assertEq(created.formingCohortId, 1, "forming cohort");
        vm.assertEq(created.roundInFlight, 0, "round in flight");
        vm.assertEq(created.manifestDigest, MANIFEST, "manifest");
        vm.assertEq(created.weightsDigest, WEIGHTS, "weights");
        vm.assertEq(keccak256(abi.encode(created.terms)), keccak256(abi.encode(terms)), "terms");
        vm.assertEq(repository.cohort(1).modelId, 1, "the cohort's model");
        assertConserved();
    }

    function test_GivenAnotherModel_TheIdsDiffer() external {
        givenModel();
        givenModel();
        vm.assertEq(modelId, 2, "second model");
        vm.assertEq(cohortId, 2, "its own cohort");
        (uint256 escrow,,) = repository.totals();
        vm.assertEq(escrow, 2 * ESCROW, "both escrows");
    }

    function refuseTerm(IModelRepository.Terms memory terms, string memory term, uint256 value, uint256 least, uint256 most) private {
        vm.prank(lender);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_TermOutOfRange.selector, term, value, least, most));
        repository.createModel{value: ESCROW}(terms, MANIFEST, WEIGHTS);
    }
}
