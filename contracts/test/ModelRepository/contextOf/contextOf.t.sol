// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract ContextOfTest is Base {
    function test_RevertGiven_TheRoundDoesNotExist() external {
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RoundUnknown.selector, 1));
        repository.contextOf(1);
    }

    function test_BindsEverythingThatNamesTheRound() external {
        givenSubmitting();
        bytes32 membersHash = repository.cohort(cohortId).membersHash;
        bytes32 expected = keccak256(abi.encode(block.chainid, address(repository), modelId, cohortId, roundId, WEIGHTS, membersHash));
        vm.assertEq(repository.contextOf(roundId), expected, "context");
    }

    function test_GivenTheNextRound_Differs() external {
        givenEvaluating();
        bytes32 first = repository.contextOf(roundId);
        report(INITIAL_ERROR);
        vm.assertEq(repository.contextOf(roundId), first, "an ended round keeps its own");
        open();
        vm.assertTrue(repository.contextOf(roundId) != first, "the next has another");
    }

    function test_GivenUnknownIds_TheRecordsAreEmpty() external view {
        vm.assertEq(uint256(repository.model(7).state), uint256(IModelRepository.ModelState.None), "model");
        vm.assertEq(repository.cohort(7).modelId, 0, "cohort");
        vm.assertEq(uint256(repository.round(7).state), uint256(IModelRepository.RoundState.None), "round");
        vm.assertEq(repository.creditOf(address(7)), 0, "credit");
    }
}
