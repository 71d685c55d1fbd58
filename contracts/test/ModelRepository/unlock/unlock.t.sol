// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract UnlockTest is Base {
    function test_RevertGiven_TheRoundDoesNotExist() external {
        roundId = 9;
        refuseState(IModelRepository.RoundState.None);
    }

    function test_RevertGiven_TheRoundIsNotUnlocking() external {
        givenSubmitting();
        refuseState(IModelRepository.RoundState.Submitting);
        submitAll();
        refuseState(IModelRepository.RoundState.Accepting);
        accept();
        unlockAll();
        refuseState(IModelRepository.RoundState.Evaluating);
    }

    function test_RevertGiven_TheWindowIsOver() external {
        givenUnlocking();
        uint64 deadline = repository.round(roundId).deadline;
        passDeadline();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_DeadlinePassed.selector, roundId, deadline));
        unlockAs(0);
    }

    function test_RevertWhen_TheCallerIsNoMember() external {
        givenUnlocking();
        bytes32 seed = seedOf(0);
        vm.prank(stranger);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotMember.selector, cohortId, stranger));
        repository.unlock(roundId, seed);
    }

    function test_RevertGiven_TheCallerHasUnlocked() external {
        givenUnlocking();
        unlockAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_AlreadyUnlocked.selector, roundId, owners[0]));
        unlockAs(0);
    }

    function testFuzz_RevertWhen_TheSeedDoesNotOpenTheCommitment(bytes32 seed) external {
        givenUnlocking();
        vm.assume(seed != seedOf(0));
        refuseSeed(seed);
    }

    function test_RevertWhen_TheSeedIsAnothersOrOfAnotherRound() external {
        givenUnlocking();
        bytes32 earlier = seedOf(0);
        refuseSeed(seedOf(1));
        unlockAll();
        report(INITIAL_ERROR);
        open();
        submitAll();
        accept();
        refuseSeed(earlier);
    }

    function test_GivenOthersAreMissing_StoresTheSeed() external {
        givenUnlocking();
        vm.warp(repository.round(roundId).deadline);
        vm.expectEmit(address(repository));
        emit IModelRepository.MemberUnlocked(roundId, owners[2], 2, seedOf(2));
        unlockAs(2);
        IModelRepository.Round memory current = repository.round(roundId);
        vm.assertEq(current.submissions[2].seed, seedOf(2), "seed");
        vm.assertTrue(current.submissions[2].isUnlocked, "unlocked");
        vm.assertFalse(current.submissions[0].isUnlocked, "not another's");
        vm.assertEq(current.unlocked, 1, "count");
        assertRoundState(IModelRepository.RoundState.Unlocking);
    }

    function test_GivenTheLastUnlock_WaitsForTheReport() external {
        givenUnlocking();
        unlockAs(0);
        unlockAs(2);
        uint64 deadline = uint64(block.timestamp) + 400;
        vm.expectEmit(address(repository));
        emit IModelRepository.MemberUnlocked(roundId, owners[1], 1, seedOf(1));
        vm.expectEmit(address(repository));
        emit IModelRepository.UnlocksCompleted(roundId, deadline);
        unlockAs(1);
        assertRoundState(IModelRepository.RoundState.Evaluating);
        vm.assertEq(repository.round(roundId).deadline, deadline, "deadline");
    }

    function refuseSeed(bytes32 seed) private {
        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_SeedMismatch.selector, roundId, owners[0]));
        repository.unlock(roundId, seed);
    }

    function refuseState(IModelRepository.RoundState state) private {
        refused(
            abi.encodeWithSelector(
                IModelRepository.ModelRepository_RoundNotIn.selector, IModelRepository.RoundState.Unlocking, roundId, state
            )
        );
        unlockAs(0);
    }
}
