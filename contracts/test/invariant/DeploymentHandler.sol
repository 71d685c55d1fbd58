// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelDeployment} from "../../src/ModelDeployment.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {IModelDeployment} from "../../src/interfaces/IModelDeployment.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";
import {Vm} from "../Vm.sol";
import {DeploymentWatch} from "./DeploymentWatch.sol";

/// @title Random callers: six accounts, two of them hostile, that lend and borrow at any time.
/// @dev A call may be refused: that is the contract's right. What it does not refuse is counted here, from the outside.
contract DeploymentHandler is Test {
    uint256 private constant MOST_DEPLOYMENTS = 6;

    ModelDeployment private immutable deployments;
    IModelRepository private immutable repository;
    DeploymentWatch public immutable watch;
    address[] private actors;

    /// What was paid in, by what each transaction carried.
    uint256 public deposited;
    uint256 public forced;

    /// Where it went, by what the contract's events say.
    uint256 public withdrawn;
    mapping(uint256 deploymentId => uint256 amount) public earnedBy;
    mapping(uint256 deploymentId => uint256 amount) public refundedBy;

    constructor(ModelDeployment deployments_, address[] memory actors_) {
        deployments = deployments_;
        repository = deployments_.repository();
        actors = actors_;
        watch = new DeploymentWatch(deployments_);
    }

    // ----------------------------------------------------------------------------------------------------- anybody, anything

    function deploy(uint256 actor, uint256 model, uint128 fee, uint32 window) external {
        if (deployments.deploymentCount() == MOST_DEPLOYMENTS) return;
        uint256 modelId = 1 + model % (repository.modelCount() + 1); // the last is unknown
        fee = fee % 5 == 0 ? 0 : uint128(bound(fee, 1, 1e18));
        if (window % 8 != 0) window = uint32(bound(window, 60, 300));
        vm.prank(mostly(repository.model(modelId).lender, actor));
        try deployments.deploy(modelId, bytes32(model), fee, window) {} catch {}
        watch.look();
    }

    function requestScore(uint256 actor, uint256 deployment, bytes32 queryDigest, uint256 value) external {
        uint256 deploymentId = deploymentOf(deployment);
        uint256 fee = deployments.deployment(deploymentId).fee;
        value = value % 8 != 0 ? fee : bound(value, 0, 2 * fee);
        tryRequest(actorOf(actor), deploymentId, queryDigest, value);
    }

    function answerScore(uint256 actor, uint256 request, bytes32 answerDigest) external {
        uint256 requestId = requestOf(request);
        tryAnswer(mostly(deployments.deployment(deployments.request(requestId).deploymentId).lender, actor), requestId, answerDigest);
    }

    function expireRequest(uint256 actor, uint256 request) external {
        uint256 requestId = requestOf(request);
        uint64 deadline = deployments.request(requestId).deadline;
        if (actor % 4 == 0 && block.timestamp <= deadline) vm.warp(uint256(deadline) + (actor / 4) % 2);
        vm.prank(actorOf(actor));
        vm.recordLogs();
        try deployments.expireRequest(requestId) {} catch {}
        book();
    }

    function retire(uint256 actor, uint256 deployment) external {
        if (actor % 4 != 1) return; // seldom, or nothing would be asked
        uint256 deploymentId = deploymentOf(deployment);
        vm.prank(mostly(deployments.deployment(deploymentId).lender, actor));
        try deployments.retire(deploymentId) {} catch {}
        watch.look();
    }

    function withdraw(uint256 actor) external {
        vm.prank(actorOf(actor));
        vm.recordLogs();
        try deployments.withdraw() {}
        catch {
            vm.getRecordedLogs(); // forge also records what was reverted
        }
        book();
    }

    // ------------------------------------------------------------------------------------------------------- what moves on

    /// A request and, mostly at once, its answer: chance alone seldom hits the right lender in time.
    function serve(uint256 actor, uint256 deployment, uint256 seed) external {
        uint256 deploymentId = deploymentOf(deployment);
        IModelDeployment.Deployment memory asked = deployments.deployment(deploymentId);
        uint256 before = deployments.requestCount();
        tryRequest(actorOf(actor), deploymentId, bytes32(seed | 1), asked.fee);
        if (deployments.requestCount() == before) return;
        vm.warp(block.timestamp + bound(seed, 0, uint256(asked.answerWindow) + 2));
        tryAnswer(asked.lender, before + 1, bytes32(seed | 1));
    }

    function passTime(uint256 seconds_) external {
        vm.warp(block.timestamp + bound(seconds_, 1, seconds_ % 16 == 0 ? 1 days : 70));
        watch.look();
    }

    function forceEther(uint256 amount) external {
        amount = bound(amount, 1, 1 ether);
        vm.deal(address(deployments), address(deployments).balance + amount);
        forced += amount;
    }

    // ---------------------------------------------------------------------------------------------------------------- trying

    function tryRequest(address account, uint256 deploymentId, bytes32 queryDigest, uint256 value) private {
        vm.deal(account, account.balance + value);
        vm.prank(account);
        try deployments.requestScore{value: value}(deploymentId, queryDigest) {
            deposited += value;
        } catch {}
        watch.look();
    }

    function tryAnswer(address account, uint256 requestId, bytes32 answerDigest) private {
        vm.prank(account);
        vm.recordLogs();
        try deployments.answerScore(requestId, answerDigest) {} catch {}
        book();
    }

    function book() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].emitter != address(deployments)) continue;
            if (logs[i].topics[0] == ILedger.Withdrawn.selector) withdrawn += abi.decode(logs[i].data, (uint256));
            if (logs[i].topics[0] != IModelDeployment.Credited.selector) continue;
            IModelDeployment.Request memory paid = deployments.request(uint256(logs[i].topics[2]));
            address account = address(uint160(uint256(logs[i].topics[1])));
            uint256 amount = abi.decode(logs[i].data, (uint256));
            if (IModelDeployment.CreditReason(uint256(logs[i].topics[3])) == IModelDeployment.CreditReason.Fee) {
                vm.assertEq(account, deployments.deployment(paid.deploymentId).lender, "a fee for somebody else");
                earnedBy[paid.deploymentId] += amount;
            } else {
                vm.assertEq(account, paid.requester, "a refund for somebody else");
                refundedBy[paid.deploymentId] += amount;
            }
        }
        watch.look();
    }

    // -------------------------------------------------------------------------------------------------------------- choosing

    function actorOf(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    /// @dev Mostly the one who may, else anybody.
    function mostly(address account, uint256 seed) private view returns (address) {
        return account != address(0) && seed % 8 != 0 ? account : actorOf(seed / 8);
    }

    /// @dev Sometimes one beyond the last: ids that nobody knows must be refused, too.
    function deploymentOf(uint256 seed) private view returns (uint256) {
        uint256 count = deployments.deploymentCount();
        return count == 0 || seed % 16 == 0 ? count + 1 : 1 + seed % count;
    }

    /// @dev Mostly one of the last four, which may still wait.
    function requestOf(uint256 seed) private view returns (uint256) {
        uint256 count = deployments.requestCount();
        if (count == 0 || seed % 16 == 0) return count + 1;
        return seed % 4 == 1 || count < 4 ? 1 + seed % count : count - seed % 4;
    }
}
