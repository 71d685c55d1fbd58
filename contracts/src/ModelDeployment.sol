// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ledger} from "./Ledger.sol";
import {TermRules} from "./TermRules.sol";
import {IModelDeployment} from "./interfaces/IModelDeployment.sol";
import {IModelRepository} from "./interfaces/IModelRepository.sol";

/// @title ModelDeployment
/// @dev Every wei is a waiting request's fee or an account's credit. The rules are told in {IModelDeployment}; money enters and leaves in
/// {Ledger}.
contract ModelDeployment is IModelDeployment, Ledger {
    /// @inheritdoc IModelDeployment
    IModelRepository public immutable repository;
    /// @inheritdoc IModelDeployment
    uint32 public immutable minimumWindow;

    /// @inheritdoc IModelDeployment
    uint256 public deploymentCount;
    /// @inheritdoc IModelDeployment
    uint256 public requestCount;

    mapping(uint256 deploymentId => Deployment) private _deployments;
    mapping(uint256 requestId => Request) private _requests;

    /// The fees of all waiting requests.
    uint256 private _totalFees;

    /// @param repository_ Where the models are trained. Warning: its word on who lent and what is trained is taken.
    constructor(IModelRepository repository_) {
        repository = repository_;
        minimumWindow = repository_.minimumWindow();
    }

    // ----------------------------------------------------------------------------------------------------------- deployments

    /// @inheritdoc IModelDeployment
    function deploy(uint256 modelId, bytes32 scoringDigest, uint128 fee, uint32 answerWindow) external returns (uint256 deploymentId) {
        // Check
        IModelRepository.Model memory trained = repository.model(modelId);
        if (msg.sender != trained.lender) revert ModelDeployment_NotModelLender(modelId, msg.sender);
        if (!trained.isTrained) revert ModelDeployment_ModelNotTrained(modelId);
        _requireWord("scoringDigest", scoringDigest);
        if (answerWindow < minimumWindow || answerWindow > TermRules.LONGEST_WINDOW) {
            revert ModelDeployment_WindowOutOfRange(answerWindow, minimumWindow, TermRules.LONGEST_WINDOW);
        }

        // Effect
        deploymentId = ++deploymentCount;
        Deployment storage created = _deployments[deploymentId];
        created.modelId = modelId;
        created.lender = msg.sender;
        created.answerWindow = answerWindow;
        created.fee = fee;
        created.weightsDigest = trained.weightsDigest;
        created.scoringDigest = scoringDigest;
        emit ModelDeployed(deploymentId, modelId, msg.sender, trained.weightsDigest, scoringDigest, fee, answerWindow);
    }

    /// @inheritdoc IModelDeployment
    function retire(uint256 deploymentId) external {
        // Check
        _requireLender(deploymentId);
        Deployment storage retiring = _deployments[deploymentId];
        if (retiring.isRetired) revert ModelDeployment_AlreadyRetired(deploymentId);

        // Effect
        retiring.isRetired = true;
        emit DeploymentRetired(deploymentId);
    }

    // -------------------------------------------------------------------------------------------------------------- requests

    /// @inheritdoc IModelDeployment
    function requestScore(uint256 deploymentId, bytes32 queryDigest) external payable returns (uint256 requestId) {
        // Check
        Deployment storage asked = _deployments[deploymentId];
        if (asked.lender == address(0) || asked.isRetired) revert ModelDeployment_NotServing(deploymentId);
        _requireWord("queryDigest", queryDigest);
        _collect(asked.fee);

        // Effect
        requestId = ++requestCount;
        uint64 deadline = uint64(block.timestamp) + asked.answerWindow;
        Request storage created = _requests[requestId];
        created.deploymentId = deploymentId;
        created.requester = msg.sender;
        created.state = RequestState.Waiting;
        created.deadline = deadline;
        created.queryDigest = queryDigest;
        _totalFees += asked.fee;
        emit ScoreRequested(requestId, deploymentId, msg.sender, queryDigest, deadline);
    }

    /// @inheritdoc IModelDeployment
    function answerScore(uint256 requestId, bytes32 answerDigest) external {
        // Check
        _requireWaiting(requestId);
        Request storage answered = _requests[requestId];
        if (block.timestamp > answered.deadline) revert ModelDeployment_DeadlinePassed(requestId, answered.deadline);
        uint256 deploymentId = answered.deploymentId;
        _requireLender(deploymentId);
        _requireWord("answerDigest", answerDigest);

        // Effect
        answered.state = RequestState.Answered;
        answered.answerDigest = answerDigest;
        emit ScoreAnswered(requestId, deploymentId, answerDigest);
        _creditFee(requestId, msg.sender, CreditReason.Fee);
    }

    /// @inheritdoc IModelDeployment
    function expireRequest(uint256 requestId) external {
        // Check
        _requireWaiting(requestId);
        Request storage expired = _requests[requestId];
        if (block.timestamp <= expired.deadline) revert ModelDeployment_DeadlineNotPassed(requestId, expired.deadline);

        // Effect
        expired.state = RequestState.Expired;
        emit RequestExpired(requestId, expired.deploymentId);
        _creditFee(requestId, expired.requester, CreditReason.Refund);
    }

    // ----------------------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IModelDeployment
    function deployment(uint256 deploymentId) external view returns (Deployment memory) {
        return _deployments[deploymentId];
    }

    /// @inheritdoc IModelDeployment
    function request(uint256 requestId) external view returns (Request memory) {
        return _requests[requestId];
    }

    /// @inheritdoc IModelDeployment
    function totals() external view returns (uint256 fees, uint256 credits) {
        return (_totalFees, _totalCredits());
    }

    // --------------------------------------------------------------------------------------------------------------- private

    /// @dev The caller has just ended the request: its fee moves once.
    function _creditFee(uint256 requestId, address account, CreditReason reason) private {
        uint256 fee = _deployments[_requests[requestId].deploymentId].fee;
        if (fee == 0) return;
        _totalFees -= fee;
        _owe(account, fee);
        emit Credited(account, requestId, reason, fee);
    }

    function _requireLender(uint256 deploymentId) private view {
        if (msg.sender != _deployments[deploymentId].lender) revert ModelDeployment_NotLender(deploymentId, msg.sender);
    }

    function _requireWaiting(uint256 requestId) private view {
        RequestState state = _requests[requestId].state;
        if (state != RequestState.Waiting) revert ModelDeployment_RequestNotWaiting(requestId, state);
    }

    function _requireWord(string memory name, bytes32 word) private pure {
        if (word == bytes32(0)) revert ModelDeployment_EmptyWord(name);
    }
}
