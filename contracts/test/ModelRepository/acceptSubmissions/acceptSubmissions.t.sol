// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract AcceptSubmissionsTest is Base {
    function test_RevertGiven_TheRoundDoesNotExist() external {
        roundId = 9;
        refuseState(IModelRepository.RoundState.None);
    }

    function test_RevertGiven_TheRoundIsNotAccepting() external {
        givenSubmitting();
        refuseState(IModelRepository.RoundState.Submitting);
        submitAll();
        accept();
        refuseState(IModelRepository.RoundState.Unlocking);
    }

    function test_RevertGiven_TheWindowIsOver() external {
        givenAccepting();
        uint64 deadline = repository.round(roundId).deadline;
        passDeadline();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_DeadlinePassed.selector, roundId, deadline));
        accept();
    }

    function test_RevertWhen_CallerIsNotTheLender() external {
        givenAccepting();
        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_NotLender.selector, modelId, owners[0]));
        repository.acceptSubmissions(roundId);
    }

    function test_WaitsForTheUnlocks() external {
        givenAccepting();
        vm.warp(repository.round(roundId).deadline);
        uint64 deadline = uint64(block.timestamp) + 300;
        vm.expectEmit(address(repository));
        emit IModelRepository.SubmissionsAccepted(roundId, deadline);
        accept();
        assertRoundState(IModelRepository.RoundState.Unlocking);
        vm.assertEq(repository.round(roundId).deadline, deadline, "deadline");
    }

    function refuseState(IModelRepository.RoundState state) private {
        refused(
            abi.encodeWithSelector(
                IModelRepository.ModelRepository_RoundNotIn.selector, IModelRepository.RoundState.Accepting, roundId, state
            )
        );
        accept();
    }
}
