// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "./ILedger.sol";
import {IModelRepository} from "./IModelRepository.sol";

/// @title The serving market: trained models that answer score requests for a fee.
/// @notice The lender of a trained model deploys it. A borrower pays the fee and anchors its encrypted query; the lender earns the fee by
/// anchoring the answer in time, otherwise the borrower gets it back. Silence never pays.
/// @dev Ids start at 1; 0 means none. Amounts are wei, times seconds. Nobody owns the contract and nothing upgrades it.
/// Digests are sha2-256 of artifacts kept elsewhere; the contract orders them and never sees their content.
interface IModelDeployment is ILedger {
    enum RequestState {
        None, // -> Waiting
        Waiting, // -> Answered, Expired
        Answered,
        Expired
    }

    /// Why an account was credited.
    enum CreditReason {
        Fee, // for an own answer
        Refund // of the fee for a request that was not answered
    }

    /// What a lender serves. Only `isRetired` ever changes: other conditions are another deployment.
    struct Deployment {
        uint256 modelId;
        address lender;
        bool isRetired; // takes no new requests
        uint32 answerWindow;
        uint128 fee; // for every request
        bytes32 weightsDigest; // the model's, which no round changes any more
        bytes32 scoringDigest; // calibration and rate policy
    }

    struct Request {
        uint256 deploymentId;
        address requester;
        RequestState state;
        uint64 deadline; // the last second in which it can be answered
        bytes32 queryDigest;
        bytes32 answerDigest; // from the answer on
    }

    /// @notice A trained model can be asked from now on.
    event ModelDeployed(
        uint256 indexed deploymentId,
        uint256 indexed modelId,
        address indexed lender,
        bytes32 weightsDigest,
        bytes32 scoringDigest,
        uint128 fee,
        uint32 answerWindow
    );
    /// @notice A borrower paid the fee and anchored its query: Waiting until `deadline`.
    event ScoreRequested(
        uint256 indexed requestId, uint256 indexed deploymentId, address indexed requester, bytes32 queryDigest, uint64 deadline
    );
    /// @notice The lender anchored its answer.
    event ScoreAnswered(uint256 indexed requestId, uint256 indexed deploymentId, bytes32 answerDigest);
    /// @notice The lender did not answer in time.
    event RequestExpired(uint256 indexed requestId, uint256 indexed deploymentId);
    /// @notice The deployment takes no new requests; those that wait can still be answered.
    event DeploymentRetired(uint256 indexed deploymentId);
    /// @notice An account may withdraw `amount` more.
    event Credited(address indexed account, uint256 indexed requestId, CreditReason indexed reason, uint256 amount);

    /// @notice The answer window is shorter or longer than the contract accepts.
    error ModelDeployment_WindowOutOfRange(uint32 answerWindow, uint32 least, uint32 most);
    /// @notice A digest is zero.
    error ModelDeployment_EmptyWord(string name);
    /// @notice Only the model's lender may deploy it.
    error ModelDeployment_NotModelLender(uint256 modelId, address account);
    /// @notice The model has not reached its target.
    error ModelDeployment_ModelNotTrained(uint256 modelId);
    /// @notice Only the deployment's lender may do this.
    error ModelDeployment_NotLender(uint256 deploymentId, address account);
    /// @notice The deployment does not exist or is retired.
    error ModelDeployment_NotServing(uint256 deploymentId);
    /// @notice The deployment was retired before.
    error ModelDeployment_AlreadyRetired(uint256 deploymentId);
    /// @notice The request was answered, has expired, or does not exist.
    error ModelDeployment_RequestNotWaiting(uint256 requestId, RequestState state);
    /// @notice The window for the answer is over.
    error ModelDeployment_DeadlinePassed(uint256 requestId, uint64 deadline);
    /// @notice The window for the answer is still open.
    error ModelDeployment_DeadlineNotPassed(uint256 requestId, uint64 deadline);

    /// @notice Offers a trained model's scores for a fee. A model may be deployed several times, on different conditions.
    /// @dev Emits {ModelDeployed}. Warning: the scoring model and the rate policy are the lender's word; the contract sees their digest only.
    /// A borrower's node checks their content before it asks.
    /// @dev Requirements: the caller is the model's lender in {repository}; the model is trained, closed or not; the window lies between
    /// {minimumWindow} and 14 days; the digest is not zero. The fee may be zero.
    function deploy(uint256 modelId, bytes32 scoringDigest, uint128 fee, uint32 answerWindow) external returns (uint256 deploymentId);

    /// @notice Asks for a score: pays the fee and anchors the caller's encrypted query.
    /// @dev Emits {ScoreRequested}. Warning: each query tells the lender a few bits, and queries add up; the borrower's node counts them, not
    /// this contract. The same digest may come again: a retry has to send the same bytes, and refusing copies would let anybody block a
    /// pending request. A copy tells its sender nothing: the answer is sealed to the borrower that the query names.
    /// @dev Requirements: the deployment exists and is not retired; `msg.value == fee`; the digest is not zero.
    function requestScore(uint256 deploymentId, bytes32 queryDigest) external payable returns (uint256 requestId);

    /// @notice Anchors the lender's answer and credits it the fee.
    /// @dev Emits {ScoreAnswered} and {Credited}. Warning: the answer is the lender's word; the contract cannot verify it.
    /// @dev Requirements: the request is Waiting and within its window; the caller is the deployment's lender; the digest is not zero.
    function answerScore(uint256 requestId, bytes32 answerDigest) external;

    /// @notice Ends a request that was not answered in time, and credits the fee to whoever paid it.
    /// @dev Emits {RequestExpired} and {Credited}.
    /// @dev Requirements: the request is Waiting and its deadline has passed. Anyone may call.
    function expireRequest(uint256 requestId) external;

    /// @notice Stops new requests. Those that wait are answered or expire as before.
    /// @dev Emits {DeploymentRetired}.
    /// @dev Requirements: the caller is the deployment's lender; not retired before.
    function retire(uint256 deploymentId) external;

    /// @notice A deployment as it stands in this block. Unknown ids answer with lender 0.
    function deployment(uint256 deploymentId) external view returns (Deployment memory);

    /// @notice A request as it stands in this block; one that nobody expired stays Waiting past its deadline. Unknown ids answer with state
    /// None.
    function request(uint256 requestId) external view returns (Request memory);

    /// @notice What the contract holds for whom, the fees of waiting requests first: its balance is never below the sum.
    function totals() external view returns (uint256 fees, uint256 credits);

    /// @notice How many deployments there are; their ids are 1 to this number.
    function deploymentCount() external view returns (uint256);

    /// @notice How many requests there are, over all deployments; their ids are 1 to this number.
    function requestCount() external view returns (uint256);

    /// @notice Where models, their lenders and their training are looked up.
    function repository() external view returns (IModelRepository);

    /// @notice The shortest answer window a deployment may have, in seconds: the repository's, finality being the same.
    function minimumWindow() external view returns (uint32);
}
