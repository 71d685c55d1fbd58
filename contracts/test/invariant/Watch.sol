// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelRepository} from "../../src/ModelRepository.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";

/// @title Remembers every model, cohort and round, and compares after each call: only the transitions of the interface's enums may happen.
contract Watch is Test {
    ModelRepository private immutable repository;

    uint256 public cohortCount;
    uint256 public roundCount;
    mapping(uint256 modelId => IModelRepository.Model) private models;
    mapping(uint256 roundId => IModelRepository.RoundState) private rounds;
    mapping(uint256 cohortId => bool isSealed) private isSealed;
    mapping(uint256 cohortId => bool isClosed) private isClosed;

    /// What an ended round and a sealed cohort's members were.
    mapping(uint256 roundId => bytes32 hash) private endings;
    mapping(uint256 cohortId => bytes32 hash) private members;

    constructor(ModelRepository repository_) {
        repository = repository_;
    }

    /// @dev After every call: what may still change.
    function look() external {
        while (repository.round(roundCount + 1).modelId != 0) roundCount += 1;
        while (repository.cohort(cohortCount + 1).modelId != 0) cohortCount += 1;
        for (uint256 id = 1; id <= repository.modelCount(); id++) {
            compareModel(id, repository.model(id));
        }
        for (uint256 id = 1; id <= roundCount; id++) {
            if (isInFlight(rounds[id]) || rounds[id] == IModelRepository.RoundState.None) compareRound(id, repository.round(id));
        }
        for (uint256 id = 1; id <= cohortCount; id++) {
            if (!isClosed[id]) compareCohort(id, repository.cohort(id));
        }
    }

    /// @dev At the end: what should not have changed any more.
    function lookBack() external {
        for (uint256 id = 1; id <= roundCount; id++) {
            if (!isInFlight(rounds[id])) {
                vm.assertTrue(keccak256(abi.encode(repository.round(id))) == endings[id], "an ended round changed");
            }
        }
        for (uint256 id = 1; id <= cohortCount; id++) {
            compareCohort(id, repository.cohort(id));
        }
    }

    function compareModel(uint256 id, IModelRepository.Model memory present) private {
        IModelRepository.Model storage before = models[id];
        vm.assertTrue(isAllowed(before.state, present.state), "a model made a forbidden transition");
        if (before.state != IModelRepository.ModelState.None) {
            vm.assertTrue(!before.isTrained || present.isTrained, "isTrained does not survive");
            vm.assertTrue(!before.isClosed || present.isClosed, "a closed model reopened");
            vm.assertLe(present.bestError, before.bestError, "the best error rose");
            vm.assertLe(present.escrow, before.escrow, "the escrow rose");
            vm.assertGe(present.roundsPaid, before.roundsPaid, "paid rounds fell");
            vm.assertEq(present.lender, before.lender, "the lender changed");
            vm.assertEq(present.manifestDigest, before.manifestDigest, "the manifest changed");
            vm.assertEq(keccak256(abi.encode(present.terms)), keccak256(abi.encode(before.terms)), "the terms changed");
        }
        vm.assertLe(present.roundsPaid, present.terms.maxRounds, "more rounds paid than escrowed");
        vm.assertTrue(!present.isTrained || present.bestError <= present.terms.targetError, "trained above the target");
        vm.assertTrue(!present.isClosed || present.escrow == 0, "a closed model holds escrow");
        models[id] = present;
    }

    function compareRound(uint256 id, IModelRepository.Round memory present) private {
        IModelRepository.RoundState before = rounds[id];
        vm.assertTrue(isAllowed(before, present.state), "a round made a forbidden transition");
        vm.assertEq(
            repository.model(present.modelId).roundInFlight == id ? 1 : 0,
            isInFlight(present.state) ? 1 : 0,
            "a round is in flight if and only if its model says so"
        );
        rounds[id] = present.state;
        endings[id] = keccak256(abi.encode(present));
    }

    function compareCohort(uint256 id, IModelRepository.Cohort memory present) private {
        bytes32 hash = keccak256(abi.encode(present.members, present.membersHash));
        vm.assertTrue(!isClosed[id] || present.isClosed, "a closed cohort reopened");
        vm.assertTrue(!isSealed[id] || present.isSealed, "a seal was broken");
        vm.assertTrue(!isSealed[id] || hash == members[id], "a sealed cohort's members changed");
        vm.assertTrue(!present.isClosed || present.roundInFlight == 0, "a closed cohort has a round in flight");
        uint64 rows = 0;
        for (uint256 i = 0; i < present.members.length; i++) {
            rows += present.members[i].rows;
        }
        vm.assertEq(present.totalRows, rows, "total rows != sum of the members' rows");
        (isSealed[id], isClosed[id], members[id]) = (present.isSealed, present.isClosed, hash);
    }

    function isInFlight(IModelRepository.RoundState state) private pure returns (bool) {
        return state >= IModelRepository.RoundState.Submitting && state <= IModelRepository.RoundState.Evaluating;
    }

    function isAllowed(IModelRepository.ModelState before, IModelRepository.ModelState present) private pure returns (bool) {
        if (before == present) return true;
        if (before == IModelRepository.ModelState.None) return present == IModelRepository.ModelState.Open;
        // Expired is computed while a round may still be in flight: that round is finished, and can train or end the model.
        if (before == IModelRepository.ModelState.Expired) {
            return present == IModelRepository.ModelState.Trained || present == IModelRepository.ModelState.Exhausted
                || present == IModelRepository.ModelState.Defaulted;
        }
        return before == IModelRepository.ModelState.Open;
    }

    function isAllowed(IModelRepository.RoundState before, IModelRepository.RoundState present) private pure returns (bool) {
        if (before == present) return true;
        if (before == IModelRepository.RoundState.None) return present == IModelRepository.RoundState.Submitting;
        if (before == IModelRepository.RoundState.Submitting) {
            return present == IModelRepository.RoundState.Accepting || present == IModelRepository.RoundState.Failed;
        }
        if (before == IModelRepository.RoundState.Accepting) {
            return present == IModelRepository.RoundState.Unlocking || present == IModelRepository.RoundState.Failed;
        }
        if (before == IModelRepository.RoundState.Unlocking) {
            return present == IModelRepository.RoundState.Evaluating || present == IModelRepository.RoundState.UnlockFailed;
        }
        if (before == IModelRepository.RoundState.Evaluating) {
            return present == IModelRepository.RoundState.Settled || present == IModelRepository.RoundState.Defaulted;
        }
        return false;
    }
}
