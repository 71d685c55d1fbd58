// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract CloseModelTest is Base {
    function test_RevertWhen_CallerIsNotTheLender() external {
        givenModel();
        vm.prank(stranger);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotLender.selector, modelId, stranger));
        repository.closeModel(modelId);
    }

    function test_RevertWhen_TheModelDoesNotExist() external {
        vm.prank(lender);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotLender.selector, 9, lender));
        repository.closeModel(9);
    }

    function test_RevertGiven_ARoundIsInFlight() external {
        givenSubmitting();
        refuseClosing();
        submitAll();
        refuseClosing();
        accept();
        refuseClosing();
        unlockAll();
        refuseClosing();
    }

    function test_RevertGiven_ItIsClosed() external {
        givenModel();
        close();
        vm.prank(lender);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_ModelAlreadyClosed.selector, modelId));
        repository.closeModel(modelId);
    }

    function test_GivenOpen_CancelsAndRefunds() external {
        givenSealedCohort();
        vm.expectEmit(address(repository));
        emit IModelRepository.ModelClosed(modelId, IModelRepository.ModelState.Cancelled, ESCROW);
        expectCredit(lender, IModelRepository.CreditReason.Refund, ESCROW);
        close();

        assertModelState(IModelRepository.ModelState.Cancelled);
        vm.assertTrue(repository.model(modelId).isClosed, "closed");
        vm.assertEq(repository.model(modelId).escrow, 0, "escrow");
        assertCredit(lender, ESCROW, "refund");
        (, uint256 bonds,) = repository.totals();
        vm.assertEq(bonds, 3 * uint256(BOND), "the bonds stay");
        assertConserved();
    }

    function test_GivenCancelled_ItStaysCancelledPastTheDeadline() external {
        givenModel();
        close();
        vm.warp(block.timestamp + 31 days);
        assertModelState(IModelRepository.ModelState.Cancelled);
    }

    function test_GivenTheTrainingDeadlineHasPassed_EndsExpired() external {
        givenModel();
        vm.warp(block.timestamp + 30 days);
        assertModelState(IModelRepository.ModelState.Open);
        vm.warp(block.timestamp + 1);
        assertModelState(IModelRepository.ModelState.Expired);
        close();
        assertModelState(IModelRepository.ModelState.Expired);
        assertCredit(lender, ESCROW, "refund");
    }

    function test_GivenTrained_StaysTrained() external {
        givenEvaluating();
        report(TARGET_ERROR);
        uint256 unused = 3 * uint256(BASE_FEE);
        vm.expectEmit(address(repository));
        emit IModelRepository.ModelClosed(modelId, IModelRepository.ModelState.Trained, unused);
        close();
        vm.assertTrue(repository.model(modelId).isTrained, "isTrained survives closing");
        assertCredit(lender, unused, "unused base fees");
        assertConserved();
    }

    function test_GivenExhausted_RefundsTheUnearnedBounty() external {
        givenSealedCohort();
        for (uint256 i = 0; i < MAX_ROUNDS; i++) {
            open();
            submitAll();
            accept();
            unlockAll();
            report(INITIAL_ERROR);
        }
        close();
        assertModelState(IModelRepository.ModelState.Exhausted);
        assertCredit(lender, BOUNTY, "no improvement, no reward");
        assertConserved();
    }

    function test_GivenDefaulted_RefundsTheUnusedBaseFees() external {
        givenEvaluating();
        passDeadline();
        repository.expireRound(roundId);
        close();
        assertModelState(IModelRepository.ModelState.Defaulted);
        assertCredit(lender, 3 * uint256(BASE_FEE), "unused base fees");
        assertConserved();
    }

    function close() private {
        vm.prank(lender);
        repository.closeModel(modelId);
    }

    function refuseClosing() private {
        vm.prank(lender);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundInFlight.selector, roundId));
        repository.closeModel(modelId);
    }
}
