// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "./interfaces/IModelRepository.sol";

/// @title What is stored, how it is read, and who may act on it.
/// @dev Creates records; changes of state are in {ModelRepository}, amounts in {Settlement}.
abstract contract Records is IModelRepository {
    /// @inheritdoc IModelRepository
    uint256 public modelCount;
    uint256 private _cohortCount;
    uint256 private _roundCount;

    mapping(uint256 modelId => Model) internal _models;
    mapping(uint256 cohortId => Cohort) internal _cohorts;
    mapping(uint256 roundId => Round) internal _rounds;

    /// A member's place in its cohort, counted from 1.
    mapping(uint256 cohortId => mapping(address account => uint16 place)) internal _placeOf;
    mapping(uint256 cohortId => mapping(bytes32 maskingKey => bool isTaken)) internal _isKeyTaken;

    // ----------------------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IModelRepository
    function model(uint256 modelId) external view returns (Model memory found) {
        found = _models[modelId];
        found.state = _stateOf(modelId);
    }

    /// @inheritdoc IModelRepository
    function cohort(uint256 cohortId) external view returns (Cohort memory) {
        return _cohorts[cohortId];
    }

    /// @inheritdoc IModelRepository
    function round(uint256 roundId) external view returns (Round memory) {
        return _rounds[roundId];
    }

    /// @inheritdoc IModelRepository
    function contextOf(uint256 roundId) public view returns (bytes32) {
        Round storage found = _rounds[roundId];
        if (found.state == RoundState.None) revert ModelRepository_RoundUnknown(roundId);
        bytes32 membersHash = _cohorts[found.cohortId].membersHash;
        return keccak256(abi.encode(block.chainid, address(this), found.modelId, found.cohortId, roundId, found.weightsDigest, membersHash));
    }

    // -------------------------------------------------------------------------------------------------------------- creation

    function _newModel() internal returns (uint256 modelId) {
        modelId = ++modelCount;
    }

    function _newCohort(uint256 modelId) internal returns (uint256 cohortId) {
        cohortId = ++_cohortCount;
        _cohorts[cohortId].modelId = modelId;
    }

    /// @dev With an empty submission for every member.
    function _newRound(uint256 cohortId) internal returns (uint256 roundId) {
        roundId = ++_roundCount;
        uint256 modelId = _cohorts[cohortId].modelId;
        uint256 size = _cohorts[cohortId].members.length;
        Round storage created = _rounds[roundId];
        created.modelId = modelId;
        created.cohortId = cohortId;
        created.weightsDigest = _models[modelId].weightsDigest;
        for (uint256 i = 0; i < size; i++) {
            created.submissions.push();
        }
    }

    // --------------------------------------------------------------------------------------------------------------- look-up

    function _stateOf(uint256 modelId) internal view returns (ModelState) {
        Model storage judged = _models[modelId];
        if (judged.state == ModelState.Open && block.timestamp > judged.terms.trainingDeadline) return ModelState.Expired;
        return judged.state;
    }

    function _requireLender(uint256 modelId) internal view {
        if (msg.sender != _models[modelId].lender) revert ModelRepository_NotLender(modelId, msg.sender);
    }

    function _requireOpen(uint256 modelId) internal view {
        ModelState state = _stateOf(modelId);
        if (state != ModelState.Open) revert ModelRepository_ModelNotOpen(modelId, state);
    }

    function _requireNoRound(uint256 modelId) internal view {
        uint256 roundId = _models[modelId].roundInFlight;
        if (roundId != 0) revert ModelRepository_RoundInFlight(roundId);
    }

    function _requireRoundIn(RoundState required, uint256 roundId) internal view {
        RoundState state = _rounds[roundId].state;
        if (state != required) revert ModelRepository_RoundNotIn(required, roundId, state);
        _requireInTime(roundId);
    }

    function _requireInTime(uint256 roundId) internal view {
        uint64 deadline = _rounds[roundId].deadline;
        if (block.timestamp > deadline) revert ModelRepository_DeadlinePassed(roundId, deadline);
    }

    /// @dev Refuses whoever is no member.
    function _indexOfCaller(uint256 cohortId) internal view returns (uint16) {
        uint16 place = _placeOf[cohortId][msg.sender];
        if (place == 0) revert ModelRepository_NotMember(cohortId, msg.sender);
        return place - 1;
    }

    function _hasSubmitted(uint256 roundId, uint256 index) internal view returns (bool) {
        return _rounds[roundId].submissions[index].gradientDigest != bytes32(0);
    }

    function _hashOf(Member[] storage members) internal view returns (bytes32) {
        address[] memory accounts = new address[](members.length);
        bytes32[] memory maskingKeys = new bytes32[](members.length);
        uint32[] memory rows = new uint32[](members.length);
        for (uint256 i = 0; i < members.length; i++) {
            accounts[i] = members[i].account;
            maskingKeys[i] = members[i].maskingKey;
            rows[i] = members[i].rows;
        }
        return keccak256(abi.encode(accounts, maskingKeys, rows));
    }

    function _requireWord(string memory name, bytes32 word) internal pure {
        if (word == bytes32(0)) revert ModelRepository_EmptyWord(name);
    }
}
