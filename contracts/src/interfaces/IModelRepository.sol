// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "./ILedger.sol";

/// @title The training market: a lender's bounty, cohorts of data owners, two-phase rounds, and the money between them.
/// @notice A lender escrows a bounty and publishes an encrypted model. Data owners form cohorts; a cohort works in rounds: submit masked
/// gradients, be accepted, unlock the sum, be paid for the improvement. Silence never pays; who can walk away unharmed may.
/// @dev Ids start at 1; 0 means none. Amounts are wei, errors billionths, times seconds. Nobody owns the contract and nothing upgrades it.
/// Digests are sha2-256 of artifacts kept elsewhere; the contract orders them and never sees their content.
interface IModelRepository is ILedger {
    /// How a round's pool is divided among the members of its cohort.
    enum SplitRule {
        Equal,
        ByRows // by declared rows, which are claims
    }

    enum ModelState {
        None, // -> Open
        Open, // -> Trained, Exhausted, Expired (computed), Defaulted, Cancelled
        Trained,
        Exhausted,
        Expired,
        Defaulted,
        Cancelled
    }

    enum RoundState {
        None, // -> Submitting
        Submitting, // -> Accepting, Failed
        Accepting, // -> Unlocking, Failed
        Unlocking, // -> Evaluating, UnlockFailed
        Evaluating, // -> Settled, Defaulted
        Settled,
        Failed,
        UnlockFailed,
        Defaulted
    }

    /// Why an account was credited.
    enum CreditReason {
        Reward, // a settled or defaulted round's share, base fee included
        Bond, // an own bond returned
        Forfeit, // a share of somebody else's bond
        Refund // the lender's remaining escrow
    }

    /// What a lender offers. Nothing in it ever changes.
    struct Terms {
        uint128 bounty; // for the whole way from the initial error to the target
        uint128 baseFee; // for every paid round, improvement or not
        uint128 memberBond; // at least the base fee, so that a silent member never gains
        uint64 initialError;
        uint64 targetError;
        uint32 maxRounds; // paid rounds
        uint16 cohortSize;
        uint32 rowCap; // the most rows one member may declare
        SplitRule splitRule;
        uint32 submitWindow;
        uint32 acceptWindow;
        uint32 unlockWindow;
        uint32 evaluateWindow;
        uint64 trainingDeadline; // no cohort is joined and no round opened after it; a round in flight is finished
    }

    struct Model {
        address lender;
        ModelState state;
        bool isTrained; // the target was reached; survives closing
        bool isClosed; // the remaining escrow was credited
        uint64 bestError;
        uint32 roundsPaid; // Settled and Defaulted
        uint256 escrow;
        uint256 formingCohortId;
        uint256 roundInFlight;
        bytes32 manifestDigest;
        bytes32 weightsDigest;
        Terms terms;
    }

    struct Member {
        address account;
        bytes32 maskingKey;
        uint32 rows;
    }

    struct Cohort {
        uint256 modelId;
        bool isSealed;
        bool isClosed;
        uint64 totalRows;
        bytes32 membersHash; // from the seal on
        uint256 roundInFlight;
        Member[] members;
    }

    struct Submission {
        bytes32 gradientDigest;
        bytes32 unlockCommitment;
        bytes32 seed;
        bool isUnlocked;
    }

    struct Round {
        uint256 modelId;
        uint256 cohortId;
        RoundState state;
        uint64 deadline; // the last second in which the present state's action is possible
        uint16 submitted;
        uint16 unlocked;
        bytes32 weightsDigest;
        Submission[] submissions; // by member index
    }

    /// @notice A model was created and its escrow paid in; `formingCohortId` is the cohort that can be joined first.
    event ModelCreated(
        uint256 indexed modelId, address indexed lender, Terms terms, bytes32 manifestDigest, bytes32 weightsDigest, uint256 formingCohortId
    );
    /// @notice A data owner paid its bond and took the next place in the forming cohort.
    event MemberJoined(uint256 indexed modelId, uint256 indexed cohortId, address indexed member, bytes32 maskingKey, uint32 rows);
    /// @notice A member left before the seal.
    /// @dev The last member takes the leaver's place in the order.
    event MemberLeft(uint256 indexed modelId, uint256 indexed cohortId, address indexed member);
    /// @notice The cohort is complete and its members are fixed; `nextCohortId` is the cohort that can be joined from now on.
    event CohortSealed(uint256 indexed modelId, uint256 indexed cohortId, bytes32 membersHash, uint64 totalRows, uint256 nextCohortId);
    /// @notice A sealed cohort ended and its bonds were credited.
    event CohortClosed(uint256 indexed modelId, uint256 indexed cohortId);
    /// @notice A round began on the given encrypted weights: Submitting until `deadline`.
    event RoundOpened(uint256 indexed roundId, uint256 indexed modelId, uint256 indexed cohortId, bytes32 weightsDigest, uint64 deadline);
    /// @notice A member anchored its masked gradient and the commitment to its self-mask seed.
    event GradientSubmitted(
        uint256 indexed roundId, address indexed member, uint16 memberIndex, bytes32 gradientDigest, bytes32 unlockCommitment
    );
    /// @notice Every member has submitted: Accepting until `deadline`.
    event SubmissionsCompleted(uint256 indexed roundId, uint64 deadline);
    /// @notice The lender holds every artifact: Unlocking until `deadline`.
    event SubmissionsAccepted(uint256 indexed roundId, uint64 deadline);
    /// @notice A member opened its self-mask seed.
    event MemberUnlocked(uint256 indexed roundId, address indexed member, uint16 memberIndex, bytes32 seed);
    /// @notice Every member has unlocked: Evaluating until `deadline`.
    event UnlocksCompleted(uint256 indexed roundId, uint64 deadline);
    /// @notice The lender reported: `reward` was earned, `pool` = reward + base fee was credited to the cohort.
    event RoundSettled(
        uint256 indexed roundId,
        uint256 indexed modelId,
        uint256 indexed cohortId,
        uint64 newError,
        bytes32 newWeightsDigest,
        bytes32 reportDigest,
        uint256 reward,
        uint256 pool,
        ModelState modelState
    );
    /// @notice A round ended before anything was opened: a member was silent or left, or the lender did not accept.
    event RoundFailed(uint256 indexed roundId, uint256 indexed modelId, uint256 indexed cohortId, RoundState fromState);
    /// @notice A round ended because a member did not unlock: the sum counts as released.
    event RoundUnlockFailed(uint256 indexed roundId, uint256 indexed modelId, uint256 indexed cohortId);
    /// @notice A round ended because the lender did not report: `pool` was credited to the cohort, and the model ended.
    event RoundDefaulted(uint256 indexed roundId, uint256 indexed modelId, uint256 indexed cohortId, uint256 pool);
    /// @notice The lender took back the remaining escrow.
    event ModelClosed(uint256 indexed modelId, ModelState state, uint256 refund);
    /// @notice An account may withdraw `amount` more.
    event Credited(address indexed account, uint256 indexed modelId, CreditReason indexed reason, uint256 amount);

    /// @notice A term lies outside what the contract accepts.
    error ModelRepository_TermOutOfRange(string term, uint256 value, uint256 least, uint256 most);
    /// @notice A digest, masking key or commitment is zero.
    error ModelRepository_EmptyWord(string name);
    /// @notice The model does not exist or has ended.
    error ModelRepository_ModelNotOpen(uint256 modelId, ModelState state);
    /// @notice The remaining escrow was already credited.
    error ModelRepository_ModelAlreadyClosed(uint256 modelId);
    /// @notice Only the model's lender may do this.
    error ModelRepository_NotLender(uint256 modelId, address account);
    /// @notice Only a member of the cohort may do this.
    error ModelRepository_NotMember(uint256 cohortId, address account);
    /// @notice The cohort that the caller wanted is not the one forming now.
    error ModelRepository_CohortNotForming(uint256 expectedCohortId, uint256 formingCohortId);
    /// @notice The declared rows are none, or more than one member may declare.
    error ModelRepository_RowsOutOfRange(uint32 rows, uint32 rowCap);
    /// @notice The account already has a place in this cohort.
    error ModelRepository_AlreadyMember(uint256 cohortId, address account);
    /// @notice Another member of this cohort has this masking key.
    error ModelRepository_MaskingKeyTaken(uint256 cohortId, bytes32 maskingKey);
    /// @notice The cohort still waits for members, or does not exist.
    error ModelRepository_CohortNotSealed(uint256 cohortId);
    /// @notice The cohort has ended.
    error ModelRepository_CohortAlreadyClosed(uint256 cohortId);
    /// @notice A round in flight stands in the way.
    error ModelRepository_RoundInFlight(uint256 roundId);
    /// @notice There is no such round.
    error ModelRepository_RoundUnknown(uint256 roundId);
    /// @notice The round has ended or does not exist.
    error ModelRepository_RoundNotInFlight(uint256 roundId, RoundState state);
    /// @notice The round is in another state than this action needs.
    error ModelRepository_RoundNotIn(RoundState required, uint256 roundId, RoundState state);
    /// @notice The state's window is over.
    error ModelRepository_DeadlinePassed(uint256 roundId, uint64 deadline);
    /// @notice The state's window is still open.
    error ModelRepository_DeadlineNotPassed(uint256 roundId, uint64 deadline);
    /// @notice The member has already submitted in this round.
    error ModelRepository_AlreadySubmitted(uint256 roundId, address account);
    /// @notice The member has already unlocked in this round.
    error ModelRepository_AlreadyUnlocked(uint256 roundId, address account);
    /// @notice The seed does not open the member's commitment.
    error ModelRepository_SeedMismatch(uint256 roundId, address account);

    /// @notice Creates a model and escrows its whole price. The caller becomes its lender.
    /// @dev Emits {ModelCreated}. Warning: the manifest, the initial error and the encrypted weights are the lender's word; the contract
    /// sees digests only. A data owner's node checks their content before it joins.
    /// @dev Requirements: `msg.value == bounty + baseFee * maxRounds`; initialError > targetError; bounty, maxRounds, rowCap and cohortSize
    /// at least 1; cohortSize at most the largest cohort; memberBond >= baseFee; every window between {minimumWindow} and 14 days;
    /// the training deadline in the future and at most 2 years away; digests not zero.
    function createModel(Terms calldata terms, bytes32 manifestDigest, bytes32 weightsDigest) external payable returns (uint256 modelId);

    /// @notice Takes a place in the model's forming cohort and pays the bond; the last place seals the cohort.
    /// @dev Emits {MemberJoined}, and {CohortSealed} for the last place. Warning: the rows are the member's word. Whoever fills the other
    /// places, the lender included, can isolate a member: its node judges the cohort before it submits.
    /// @dev Requirements: the model is Open; `expectedCohortId` is the one forming; `msg.value == memberBond`; 1 <= rows <= rowCap;
    /// the account and the masking key are new in the cohort; the key is not zero.
    function join(uint256 modelId, uint256 expectedCohortId, bytes32 maskingKey, uint32 rows) external payable;

    /// @notice Takes the caller's bond back. A sealed cohort closes with it, and every member's bond is credited.
    /// @dev Emits {MemberLeft} before the seal, otherwise {CohortClosed}; {RoundFailed} first if a round was Submitting; {Credited}.
    /// @dev Requirements: the caller is a member; the cohort is not closed; no round of the cohort is in flight, or it is Submitting,
    /// within its window, and the caller has not submitted. Possible for ever, also after the model ended.
    function leave(uint256 cohortId) external;

    /// @notice Opens a round of a sealed cohort on the model's current encrypted weights.
    /// @dev Emits {RoundOpened}.
    /// @dev Requirements: the caller is the lender; the model is Open; the cohort is sealed and not closed; no round of the model is in flight.
    function openRound(uint256 cohortId) external returns (uint256 roundId);

    /// @notice Anchors the caller's masked gradient and the commitment to its self-mask seed. The last submission moves the round on.
    /// @dev Emits {GradientSubmitted}, and {SubmissionsCompleted} for the last. Warning: the content is the member's word until the lender
    /// accepts. Another member's words may be repeated: a copy opens nothing (the commitment binds the member's index, the artifact names its
    /// member), while refusing copies would let a member block another's pending transaction and collect its bond.
    /// @dev Requirements: the round is Submitting and within its window; the caller is a member and has not submitted; both words are not zero.
    function submitGradient(uint256 roundId, bytes32 gradientDigest, bytes32 unlockCommitment) external;

    /// @notice Confirms that the lender holds every submitted artifact, content and digest checked.
    /// @dev Emits {SubmissionsAccepted}. From here on the lender cannot claim that content was missing.
    /// @dev Requirements: the round is Accepting and within its window; the caller is the lender.
    function acceptSubmissions(uint256 roundId) external;

    /// @notice Opens the caller's self-mask seed. The last unlock moves the round on.
    /// @dev Emits {MemberUnlocked}, and {UnlocksCompleted} for the last. Warning: the seed is public from the moment it is broadcast: send it
    /// only after the acceptance is final.
    /// @dev Requirements: the round is Unlocking and within its window; the caller is a member and has not unlocked; the seed opens its
    /// commitment keccak256(abi.encode(contextOf(roundId), memberIndex, seed)).
    function unlock(uint256 roundId, bytes32 seed) external;

    /// @notice Books the cohort's reward for a round and anchors the new encrypted weights.
    /// @dev Emits {RoundSettled} and {Credited}. Warning: the error and the new weights are the lender's word; the contract cannot verify them.
    /// @dev Requirements: the round is Evaluating and within its window; the caller is the lender; both digests are not zero.
    function reportRound(uint256 roundId, uint64 newError, bytes32 newWeightsDigest, bytes32 reportDigest) external;

    /// @notice Ends a round whose window passed without the action it waited for, at the cost of whoever was silent.
    /// @dev Emits {RoundFailed}, {RoundUnlockFailed} or {RoundDefaulted}; {CohortClosed}; {Credited}.
    /// @dev Requirements: the round is in flight and its deadline has passed. Anyone may call.
    function expireRound(uint256 roundId) external;

    /// @notice Credits the lender what is left of the escrow. A model that is still Open is cancelled.
    /// @dev Emits {ModelClosed} and {Credited}. The members' bonds stay theirs: {leave}.
    /// @dev Requirements: the caller is the lender; no round of the model is in flight; not closed before.
    function closeModel(uint256 modelId) external;

    /// @notice A model as it stands in this block; Expired is computed. Unknown ids answer with state None.
    function model(uint256 modelId) external view returns (Model memory);

    /// @notice A cohort and its members, in order. Unknown ids answer with model 0.
    function cohort(uint256 cohortId) external view returns (Cohort memory);

    /// @notice A round and its submissions, by member index. Unknown ids answer with state None.
    function round(uint256 roundId) external view returns (Round memory);

    /// @notice What binds masks and commitments to this round and no other:
    /// keccak256(abi.encode(chainId, contract, modelId, cohortId, roundId, weightsDigest, membersHash)).
    function contextOf(uint256 roundId) external view returns (bytes32);

    /// @notice What the contract holds for whom: its balance is never below the sum.
    function totals() external view returns (uint256 escrow, uint256 bonds, uint256 credits);

    /// @notice How many models there are; their ids are 1 to this number.
    function modelCount() external view returns (uint256);

    /// @notice The shortest window a model may have, in seconds.
    function minimumWindow() external view returns (uint32);
}
