// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Settlement} from "./Settlement.sol";
import {TermRules} from "./TermRules.sol";
import {IModelRepository} from "./interfaces/IModelRepository.sol";

/// @title ModelRepository
/// @dev The states and who moves them. The rules are told in {IModelRepository}; records are kept in {Records}, amounts in {Settlement}, and
/// money enters and leaves in {Ledger}.
contract ModelRepository is Settlement {
    /// @inheritdoc IModelRepository
    uint32 public immutable minimumWindow;

    /// @param minimumWindow_ The shortest window of any model, in seconds.
    /// @dev Warning: the contract cannot know how long finality takes on its chain. The minimum must be longer than twice that delay: members
    /// unlock only after the acceptance is final, and have to get the unlock included before the window ends.
    constructor(uint32 minimumWindow_) {
        TermRules.requireRange("minimumWindow", minimumWindow_, 1, TermRules.LONGEST_WINDOW);
        minimumWindow = minimumWindow_;
    }

    // ---------------------------------------------------------------------------------------------------------------- models

    /// @inheritdoc IModelRepository
    function createModel(Terms calldata terms, bytes32 manifestDigest, bytes32 weightsDigest) external payable returns (uint256 modelId) {
        // Check
        TermRules.requireValid(terms, minimumWindow);
        _requireWord("manifestDigest", manifestDigest);
        _requireWord("weightsDigest", weightsDigest);
        uint256 escrow = terms.bounty + uint256(terms.baseFee) * terms.maxRounds;
        _collect(escrow);

        // Effect
        modelId = _newModel();
        Model storage created = _models[modelId];
        created.lender = msg.sender;
        created.state = ModelState.Open;
        created.bestError = terms.initialError;
        created.formingCohortId = _newCohort(modelId);
        created.manifestDigest = manifestDigest;
        created.weightsDigest = weightsDigest;
        created.terms = terms;
        _holdEscrow(modelId, escrow);
        emit ModelCreated(modelId, msg.sender, terms, manifestDigest, weightsDigest, created.formingCohortId);
    }

    /// @inheritdoc IModelRepository
    function closeModel(uint256 modelId) external {
        // Check
        _requireLender(modelId);
        Model storage closing = _models[modelId];
        if (closing.isClosed) revert ModelRepository_ModelAlreadyClosed(modelId);
        _requireNoRound(modelId);

        // Effect
        ModelState state = _stateOf(modelId);
        closing.state = state == ModelState.Open ? ModelState.Cancelled : state;
        closing.isClosed = true;
        emit ModelClosed(modelId, closing.state, closing.escrow);
        _refundEscrow(modelId);
    }

    // --------------------------------------------------------------------------------------------------------------- cohorts

    /// @inheritdoc IModelRepository
    function join(uint256 modelId, uint256 expectedCohortId, bytes32 maskingKey, uint32 rows) external payable {
        // Check
        _requireOpen(modelId);
        Model storage joined = _models[modelId];
        uint256 cohortId = joined.formingCohortId;
        if (cohortId != expectedCohortId) revert ModelRepository_CohortNotForming(expectedCohortId, cohortId);
        if (rows == 0 || rows > joined.terms.rowCap) revert ModelRepository_RowsOutOfRange(rows, joined.terms.rowCap);
        _requireWord("maskingKey", maskingKey);
        if (_placeOf[cohortId][msg.sender] != 0) revert ModelRepository_AlreadyMember(cohortId, msg.sender);
        if (_isKeyTaken[cohortId][maskingKey]) revert ModelRepository_MaskingKeyTaken(cohortId, maskingKey);
        _collect(joined.terms.memberBond);

        // Effect
        Cohort storage forming = _cohorts[cohortId];
        forming.members.push(Member({account: msg.sender, maskingKey: maskingKey, rows: rows}));
        forming.totalRows += rows;
        // forge-lint: disable-next-line(unsafe-typecast) a cohort has at most TermRules.LARGEST_COHORT members
        _placeOf[cohortId][msg.sender] = uint16(forming.members.length);
        _isKeyTaken[cohortId][maskingKey] = true;
        _holdBond(modelId);
        emit MemberJoined(modelId, cohortId, msg.sender, maskingKey, rows);

        if (forming.members.length == joined.terms.cohortSize) {
            forming.isSealed = true;
            forming.membersHash = _hashOf(forming.members);
            joined.formingCohortId = _newCohort(modelId);
            emit CohortSealed(modelId, cohortId, forming.membersHash, forming.totalRows, joined.formingCohortId);
        }
    }

    /// @inheritdoc IModelRepository
    function leave(uint256 cohortId) external {
        // Check
        uint16 index = _indexOfCaller(cohortId);
        Cohort storage left = _cohorts[cohortId];
        if (left.isClosed) revert ModelRepository_CohortAlreadyClosed(cohortId);
        uint256 roundId = left.roundInFlight;
        if (roundId != 0) {
            if (_rounds[roundId].state != RoundState.Submitting) revert ModelRepository_RoundInFlight(roundId);
            _requireInTime(roundId);
            if (_hasSubmitted(roundId, index)) revert ModelRepository_AlreadySubmitted(roundId, msg.sender);
        }

        // Effect
        if (!left.isSealed) return _removeMember(cohortId, index);
        if (roundId != 0) {
            _endRound(roundId, RoundState.Failed);
            emit RoundFailed(roundId, left.modelId, cohortId, RoundState.Submitting);
        }
        _closeCohort(cohortId);
        _returnBonds(cohortId);
    }

    // ---------------------------------------------------------------------------------------------------------------- rounds

    /// @inheritdoc IModelRepository
    function openRound(uint256 cohortId) external returns (uint256 roundId) {
        // Check
        Cohort storage opening = _cohorts[cohortId];
        uint256 modelId = opening.modelId;
        _requireLender(modelId);
        _requireOpen(modelId); // implies roundsPaid < maxRounds: the last paid round ends the model
        if (!opening.isSealed) revert ModelRepository_CohortNotSealed(cohortId);
        if (opening.isClosed) revert ModelRepository_CohortAlreadyClosed(cohortId);
        _requireNoRound(modelId);

        // Effect
        roundId = _newRound(cohortId);
        _models[modelId].roundInFlight = roundId;
        opening.roundInFlight = roundId;
        uint64 deadline = _enter(roundId, RoundState.Submitting, _models[modelId].terms.submitWindow);
        emit RoundOpened(roundId, modelId, cohortId, _rounds[roundId].weightsDigest, deadline);
    }

    /// @inheritdoc IModelRepository
    function submitGradient(uint256 roundId, bytes32 gradientDigest, bytes32 unlockCommitment) external {
        // Check
        _requireRoundIn(RoundState.Submitting, roundId);
        Round storage current = _rounds[roundId];
        uint16 index = _indexOfCaller(current.cohortId);
        if (_hasSubmitted(roundId, index)) revert ModelRepository_AlreadySubmitted(roundId, msg.sender);
        _requireWord("gradientDigest", gradientDigest);
        _requireWord("unlockCommitment", unlockCommitment);

        // Effect
        current.submissions[index].gradientDigest = gradientDigest;
        current.submissions[index].unlockCommitment = unlockCommitment;
        current.submitted += 1;
        emit GradientSubmitted(roundId, msg.sender, index, gradientDigest, unlockCommitment);

        if (current.submitted == current.submissions.length) {
            uint64 deadline = _enter(roundId, RoundState.Accepting, _models[current.modelId].terms.acceptWindow);
            emit SubmissionsCompleted(roundId, deadline);
        }
    }

    /// @inheritdoc IModelRepository
    function acceptSubmissions(uint256 roundId) external {
        // Check
        _requireRoundIn(RoundState.Accepting, roundId);
        uint256 modelId = _rounds[roundId].modelId;
        _requireLender(modelId);

        // Effect
        uint64 deadline = _enter(roundId, RoundState.Unlocking, _models[modelId].terms.unlockWindow);
        emit SubmissionsAccepted(roundId, deadline);
    }

    /// @inheritdoc IModelRepository
    function unlock(uint256 roundId, bytes32 seed) external {
        // Check
        _requireRoundIn(RoundState.Unlocking, roundId);
        Round storage current = _rounds[roundId];
        uint16 index = _indexOfCaller(current.cohortId);
        Submission storage submission = current.submissions[index];
        if (submission.isUnlocked) revert ModelRepository_AlreadyUnlocked(roundId, msg.sender);
        bytes32 opened = keccak256(abi.encode(contextOf(roundId), index, seed));
        if (opened != submission.unlockCommitment) revert ModelRepository_SeedMismatch(roundId, msg.sender);

        // Effect
        submission.seed = seed;
        submission.isUnlocked = true;
        current.unlocked += 1;
        emit MemberUnlocked(roundId, msg.sender, index, seed);

        if (current.unlocked == current.submissions.length) {
            uint64 deadline = _enter(roundId, RoundState.Evaluating, _models[current.modelId].terms.evaluateWindow);
            emit UnlocksCompleted(roundId, deadline);
        }
    }

    /// @inheritdoc IModelRepository
    function reportRound(uint256 roundId, uint64 newError, bytes32 newWeightsDigest, bytes32 reportDigest) external {
        // Check
        _requireRoundIn(RoundState.Evaluating, roundId);
        uint256 modelId = _rounds[roundId].modelId;
        uint256 cohortId = _rounds[roundId].cohortId;
        _requireLender(modelId);
        _requireWord("newWeightsDigest", newWeightsDigest);
        _requireWord("reportDigest", reportDigest);

        // Effect
        Model storage improved = _models[modelId];
        uint256 reward = _rewardFor(modelId, newError);
        uint256 pool = reward + improved.terms.baseFee;
        improved.weightsDigest = newWeightsDigest;
        improved.roundsPaid += 1;
        if (newError < improved.bestError) improved.bestError = newError;
        if (improved.bestError <= improved.terms.targetError) {
            improved.state = ModelState.Trained;
            improved.isTrained = true;
        } else if (improved.roundsPaid == improved.terms.maxRounds) {
            improved.state = ModelState.Exhausted;
        }
        _endRound(roundId, RoundState.Settled);
        emit RoundSettled(roundId, modelId, cohortId, newError, newWeightsDigest, reportDigest, reward, pool, improved.state);
        _payCohort(cohortId, pool);
    }

    /// @inheritdoc IModelRepository
    function expireRound(uint256 roundId) external {
        // Check
        Round storage current = _rounds[roundId];
        RoundState state = current.state;
        if (state < RoundState.Submitting || state > RoundState.Evaluating) revert ModelRepository_RoundNotInFlight(roundId, state);
        if (block.timestamp <= current.deadline) revert ModelRepository_DeadlineNotPassed(roundId, current.deadline);

        // Effect
        uint256 cohortId = current.cohortId;
        if (state == RoundState.Evaluating) {
            _default(roundId);
        } else if (state == RoundState.Unlocking) {
            _endRound(roundId, RoundState.UnlockFailed);
            emit RoundUnlockFailed(roundId, current.modelId, cohortId);
        } else {
            _endRound(roundId, RoundState.Failed);
            emit RoundFailed(roundId, current.modelId, cohortId, state);
        }
        _closeCohort(cohortId);
        if (state == RoundState.Submitting || state == RoundState.Unlocking) _forfeitBonds(roundId, state);
        else _returnBonds(cohortId); // the lender was silent
    }

    // --------------------------------------------------------------------------------------------------------------- effects

    /// @dev Before the seal only, which fixes the members' indices.
    function _removeMember(uint256 cohortId, uint16 index) private {
        Cohort storage forming = _cohorts[cohortId];
        Member memory leaver = forming.members[index];
        Member memory last = forming.members[forming.members.length - 1];
        forming.members[index] = last;
        forming.members.pop();
        forming.totalRows -= leaver.rows;
        _placeOf[cohortId][last.account] = index + 1;
        _placeOf[cohortId][leaver.account] = 0; // second: the leaver may be the last
        _isKeyTaken[cohortId][leaver.maskingKey] = false;
        emit MemberLeft(forming.modelId, cohortId, leaver.account);
        _returnBond(forming.modelId, leaver.account);
    }

    function _enter(uint256 roundId, RoundState next, uint32 window) private returns (uint64 deadline) {
        deadline = uint64(block.timestamp) + window;
        _rounds[roundId].state = next;
        _rounds[roundId].deadline = deadline;
    }

    function _endRound(uint256 roundId, RoundState outcome) private {
        Round storage ended = _rounds[roundId];
        ended.state = outcome;
        _models[ended.modelId].roundInFlight = 0;
        _cohorts[ended.cohortId].roundInFlight = 0;
    }

    /// @dev The members have unlocked and the lender can read the sum: it pays as if the target had been reached.
    function _default(uint256 roundId) private {
        uint256 modelId = _rounds[roundId].modelId;
        uint256 cohortId = _rounds[roundId].cohortId;
        Model storage ended = _models[modelId];
        uint256 pool = _rewardFor(modelId, ended.terms.targetError) + ended.terms.baseFee;
        ended.roundsPaid += 1;
        ended.state = ModelState.Defaulted;
        _endRound(roundId, RoundState.Defaulted);
        emit RoundDefaulted(roundId, modelId, cohortId, pool);
        _payCohort(cohortId, pool);
    }

    /// @dev The caller decides, in the same transaction, where the bonds go.
    function _closeCohort(uint256 cohortId) private {
        _cohorts[cohortId].isClosed = true;
        emit CohortClosed(_cohorts[cohortId].modelId, cohortId);
    }
}
