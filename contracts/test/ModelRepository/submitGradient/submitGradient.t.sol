// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract SubmitGradientTest is Base {
    bytes32 private constant WORD = keccak256("word");

    function test_RevertGiven_TheRoundDoesNotExist() external {
        roundId = 9;
        refuseState(IModelRepository.RoundState.None);
    }

    function test_RevertGiven_TheRoundIsPastSubmitting() external {
        givenAccepting();
        refuseState(IModelRepository.RoundState.Accepting);
        accept();
        refuseState(IModelRepository.RoundState.Unlocking);
        unlockAll();
        refuseState(IModelRepository.RoundState.Evaluating);
        report(INITIAL_ERROR);
        refuseState(IModelRepository.RoundState.Settled);
    }

    function test_RevertGiven_TheWindowIsOver() external {
        givenSubmitting();
        uint64 deadline = repository.round(roundId).deadline;
        passDeadline();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_DeadlinePassed.selector, roundId, deadline));
        submit(owners[0], WORD, WORD);
    }

    function test_RevertWhen_TheCallerIsNoMember() external {
        givenSubmitting();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotMember.selector, cohortId, lender));
        submit(lender, WORD, WORD);
    }

    function test_RevertGiven_TheCallerHasSubmitted() external {
        givenSubmitting();
        submitAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_AlreadySubmitted.selector, roundId, owners[0]));
        submit(owners[0], WORD, WORD);
    }

    function test_RevertWhen_AWordIsZero() external {
        givenSubmitting();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "gradientDigest"));
        submit(owners[0], bytes32(0), WORD);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "unlockCommitment"));
        submit(owners[0], WORD, bytes32(0));
    }

    function test_GivenTheLastSecond_IsInTime() external {
        givenSubmitting();
        vm.warp(repository.round(roundId).deadline);
        submitAs(0);
        vm.assertEq(repository.round(roundId).submitted, 1, "submitted");
    }

    function test_GivenOthersAreMissing_StoresBothWords() external {
        givenSubmitting();
        bytes32 commitment = commitmentOf(1);
        vm.expectEmit(address(repository));
        emit IModelRepository.GradientSubmitted(roundId, owners[1], 1, gradientOf(1), commitment);
        submitAs(1);

        IModelRepository.Round memory current = repository.round(roundId);
        vm.assertEq(current.submissions[1].gradientDigest, gradientOf(1), "digest");
        vm.assertEq(current.submissions[1].unlockCommitment, commitment, "commitment");
        vm.assertEq(current.submissions[0].gradientDigest, bytes32(0), "not another's");
        vm.assertEq(current.submitted, 1, "submitted");
        assertRoundState(IModelRepository.RoundState.Submitting);
    }

    function test_GivenTheLastSubmission_WaitsForTheLender() external {
        givenSubmitting();
        submitAs(2);
        submitAs(0);
        vm.warp(block.timestamp + 50);
        bytes32 commitment = commitmentOf(1);
        uint64 deadline = uint64(block.timestamp) + 200;
        vm.expectEmit(address(repository));
        emit IModelRepository.GradientSubmitted(roundId, owners[1], 1, gradientOf(1), commitment);
        vm.expectEmit(address(repository));
        emit IModelRepository.SubmissionsCompleted(roundId, deadline);
        submitAs(1);
        assertRoundState(IModelRepository.RoundState.Accepting);
        vm.assertEq(repository.round(roundId).deadline, deadline, "deadline");
    }

    /// A rule that words must be new in the round would let the copier block the original and collect its bond.
    function test_GivenAnotherMemberCopiedTheWords_TheOriginalCountsAndTheCopyCosts() external {
        givenSubmitting();
        bytes32 commitment = commitmentOf(1);
        submit(owners[0], gradientOf(1), commitment); // ahead of its owner's transaction
        submitAs(1);
        submitAs(2);
        accept();
        unlockAs(1);
        unlockAs(2);
        bytes32 seed = seedOf(1); // public by now, but it opens the commitment of index 1 only
        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_SeedMismatch.selector, roundId, owners[0]));
        repository.unlock(roundId, seed);
        passDeadline();
        repository.expireRound(roundId);
        assertCredit(owners[0], 0, "the copier's bond is lost");
        vm.assertLe(uint256(BOND) + BOND / 2, repository.creditOf(owners[1]), "to those it tried to harm");
    }

    function submit(address account, bytes32 gradientDigest, bytes32 commitment) private {
        vm.prank(account);
        repository.submitGradient(roundId, gradientDigest, commitment);
    }

    function refuseState(IModelRepository.RoundState state) private {
        refused(
            abi.encodeWithSelector(
                IModelRepository.ModelRepository_RoundNotIn.selector, IModelRepository.RoundState.Submitting, roundId, state
            )
        );
        submit(owners[0], WORD, WORD);
    }
}
