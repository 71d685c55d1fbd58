// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelRepository} from "../../src/ModelRepository.sol";
import {ILedger} from "../../src/interfaces/ILedger.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";
import {Vm} from "../Vm.sol";
import {Watch} from "./Watch.sol";

/// @title Random callers: eight accounts, two of them hostile, that do anything to a market at any time.
/// @dev A call may be refused: that is the repository's right. What it does not refuse is counted here, from the outside.
contract Handler is Test {
    uint256 private constant MOST_MODELS = 3;

    ModelRepository private immutable repository;
    Watch public immutable watch;
    address[] private actors;

    /// What was paid in, by what each transaction carried.
    uint256 public deposited;
    uint256 public forced;
    mapping(uint256 modelId => uint256 amount) public escrowedFor;

    /// Where it went, by what the repository's events say.
    uint256 public withdrawn;
    uint256 public bondsBack;
    mapping(uint256 modelId => uint256 amount) public paidBy;
    mapping(uint256 modelId => uint256 amount) public refundedBy;

    constructor(ModelRepository repository_, address[] memory actors_) {
        repository = repository_;
        actors = actors_;
        watch = new Watch(repository_);
    }

    // ----------------------------------------------------------------------------------------------------- anybody, anything

    function createModel(uint256 seed, uint128 bounty, uint128 baseFee, uint64 initialError, uint64 targetError) external {
        if (repository.modelCount() == MOST_MODELS) return;
        initialError = uint64(bound(initialError, 1, type(uint64).max));
        IModelRepository.Terms memory terms = IModelRepository.Terms({
            bounty: uint128(bound(bounty, 1, 1e24)),
            baseFee: uint128(bound(baseFee, 0, 1e18)),
            memberBond: uint128(bound(baseFee, 0, 1e18) + (seed % 3)),
            initialError: initialError,
            targetError: uint64(bound(targetError, 0, initialError - 1)),
            maxRounds: uint32(1 + (seed / 3) % 4),
            cohortSize: uint16(1 + (seed / 12) % 3),
            rowCap: type(uint32).max,
            splitRule: (seed / 36) % 2 == 0 ? IModelRepository.SplitRule.Equal : IModelRepository.SplitRule.ByRows,
            submitWindow: 300,
            acceptWindow: 300,
            unlockWindow: 300,
            evaluateWindow: 300,
            trainingDeadline: uint64(block.timestamp + 1 days)
        });
        uint256 escrow = terms.bounty + uint256(terms.baseFee) * terms.maxRounds;
        address lender = actorOf(seed);
        vm.deal(lender, lender.balance + escrow);
        vm.prank(lender);
        uint256 modelId = repository.createModel{value: escrow}(terms, bytes32(seed | 1), bytes32(seed | 1));
        deposited += escrow;
        escrowedFor[modelId] = escrow;
        watch.look();
    }

    function join(uint256 actor, uint256 model, uint32 rows) external {
        tryJoin(actorOf(actor), modelOf(model), rows);
    }

    function leave(uint256 actor, uint256 model) external {
        uint256 cohortId = cohortOf(model);
        vm.prank(memberOf(cohortId, actor));
        vm.recordLogs();
        try repository.leave(cohortId) {} catch {}
        book();
    }

    function openRound(uint256 actor, uint256 model) external {
        tryOpen(mostly(repository.model(modelOf(model)).lender, actor), cohortOf(model));
    }

    function submitGradient(uint256 actor, uint256 model) external {
        uint256 roundId = roundOf(model);
        trySubmit(memberOf(repository.round(roundId).cohortId, actor), roundId);
    }

    function acceptSubmissions(uint256 actor, uint256 model) external {
        tryAccept(mostly(repository.model(modelOf(model)).lender, actor), roundOf(model));
    }

    function unlock(uint256 actor, uint256 model) external {
        uint256 roundId = roundOf(model);
        tryUnlock(memberOf(repository.round(roundId).cohortId, actor), roundId);
    }

    function reportRound(uint256 actor, uint256 model, uint64 newError) external {
        tryReport(mostly(repository.model(modelOf(model)).lender, actor), roundOf(model), newError);
    }

    function expireRound(uint256 actor, uint256 model) external {
        uint256 roundId = roundOf(model);
        uint64 deadline = repository.round(roundId).deadline;
        if (actor % 4 == 0 && block.timestamp <= deadline) vm.warp(uint256(deadline) + 1);
        vm.prank(actorOf(actor));
        vm.recordLogs();
        try repository.expireRound(roundId) {} catch {}
        book();
    }

    function closeModel(uint256 actor, uint256 model) external {
        uint256 modelId = modelOf(model);
        bool isOpen = repository.model(modelId).state == IModelRepository.ModelState.Open;
        if (isOpen && actor % 16 != 1) return; // seldom, or nothing would ever be trained
        vm.prank(mostly(repository.model(modelId).lender, actor));
        vm.recordLogs();
        try repository.closeModel(modelId) {} catch {}
        book();
    }

    function withdraw(uint256 actor) external {
        vm.prank(actorOf(actor));
        vm.recordLogs();
        try repository.withdraw() {}
        catch {
            vm.getRecordedLogs(); // forge also records what was reverted
        }
        book();
    }

    // ------------------------------------------------------------------------------------- everybody does what is expected

    /// @dev Some steps of a model's way: random calls alone seldom come to the end of a round.
    function advance(uint256 model, uint256 seed, uint64 newError) external {
        for (uint256 i = 0; i < 1 + seed % 5; i++) {
            step(modelOf(model), seed / 5, newError);
        }
    }

    function step(uint256 modelId, uint256 seed, uint64 newError) private {
        IModelRepository.Model memory found = repository.model(modelId);
        uint256 roundId = found.roundInFlight;
        if (found.lender == address(0)) return;
        if (roundId == 0) {
            uint256 cohortId = found.formingCohortId - 1;
            while (cohortId > 0 && repository.cohort(cohortId).modelId != modelId) cohortId -= 1;
            if (cohortId != 0 && !repository.cohort(cohortId).isClosed) return tryOpen(found.lender, cohortId);
            for (uint256 i = 0; i < found.terms.cohortSize; i++) {
                // forge-lint: disable-next-line(unsafe-typecast) any number will do
                tryJoin(actorOf(seed % actors.length + i), modelId, uint32(newError));
            }
            return;
        }
        IModelRepository.Round memory current = repository.round(roundId);
        IModelRepository.Member[] memory members = repository.cohort(current.cohortId).members;
        for (uint256 i = 0; i < members.length; i++) {
            if (current.state == IModelRepository.RoundState.Submitting) trySubmit(members[i].account, roundId);
            if (current.state == IModelRepository.RoundState.Unlocking) tryUnlock(members[i].account, roundId);
        }
        if (current.state == IModelRepository.RoundState.Accepting) tryAccept(found.lender, roundId);
        if (current.state == IModelRepository.RoundState.Evaluating) tryReport(found.lender, roundId, newError);
    }

    function passTime(uint256 seconds_) external {
        vm.warp(block.timestamp + bound(seconds_, 1, seconds_ % 16 == 0 ? 1 days : 70));
        watch.look();
    }

    function forceEther(uint256 amount) external {
        amount = bound(amount, 1, 1 ether);
        vm.deal(address(repository), address(repository).balance + amount);
        forced += amount;
    }

    // ---------------------------------------------------------------------------------------------------------------- trying

    function tryJoin(address account, uint256 modelId, uint32 rows) private {
        IModelRepository.Model memory joined = repository.model(modelId);
        uint256 bond = joined.terms.memberBond;
        bytes32 key = bytes32(uint256(uint160(account)));
        rows = uint32(bound(rows, 1, type(uint32).max));
        vm.deal(account, account.balance + bond);
        vm.prank(account);
        try repository.join{value: bond}(modelId, joined.formingCohortId, key, rows) {
            deposited += bond;
        } catch {}
        watch.look();
    }

    function tryOpen(address account, uint256 cohortId) private {
        vm.prank(account);
        try repository.openRound(cohortId) {} catch {}
        watch.look();
    }

    function trySubmit(address account, uint256 roundId) private {
        bytes32 commitment = commitmentOf(roundId, account);
        vm.prank(account);
        try repository.submitGradient(roundId, keccak256(abi.encode(account)), commitment) {} catch {}
        watch.look();
    }

    function tryAccept(address account, uint256 roundId) private {
        vm.prank(account);
        try repository.acceptSubmissions(roundId) {} catch {}
        watch.look();
    }

    function tryUnlock(address account, uint256 roundId) private {
        vm.prank(account);
        try repository.unlock(roundId, seedOf(account)) {} catch {}
        watch.look();
    }

    function tryReport(address account, uint256 roundId, uint64 newError) private {
        IModelRepository.Terms memory terms = repository.model(repository.round(roundId).modelId).terms;
        if (newError % 8 != 0) newError = uint64(bound(newError, terms.targetError, terms.initialError));
        vm.prank(account);
        vm.recordLogs();
        try repository.reportRound(roundId, newError, bytes32(uint256(newError) | 1), bytes32(uint256(1))) {} catch {}
        book();
    }

    function book() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].emitter != address(repository)) continue;
            if (logs[i].topics[0] == ILedger.Withdrawn.selector) withdrawn += abi.decode(logs[i].data, (uint256));
            if (logs[i].topics[0] != IModelRepository.Credited.selector) continue;
            uint256 modelId = uint256(logs[i].topics[2]);
            uint256 amount = abi.decode(logs[i].data, (uint256));
            IModelRepository.CreditReason reason = IModelRepository.CreditReason(uint256(logs[i].topics[3]));
            if (reason == IModelRepository.CreditReason.Reward) paidBy[modelId] += amount;
            else if (reason == IModelRepository.CreditReason.Refund) refundedBy[modelId] += amount;
            else bondsBack += amount;
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
    function modelOf(uint256 seed) private view returns (uint256) {
        uint256 count = repository.modelCount();
        return count == 0 || seed % 16 == 0 ? count + 1 : 1 + seed % count;
    }

    /// @dev The forming cohort of a model, or the one before it, which may be another model's.
    function cohortOf(uint256 seed) private view returns (uint256) {
        uint256 forming = repository.model(modelOf(seed)).formingCohortId;
        return forming > 1 && seed % 3 != 0 ? forming - 1 : forming;
    }

    /// @dev Mostly the round in flight of a model, else any, known or not.
    function roundOf(uint256 seed) private view returns (uint256) {
        uint256 inFlight = repository.model(modelOf(seed)).roundInFlight;
        return inFlight != 0 && seed % 8 != 0 ? inFlight : 1 + seed % 8;
    }

    function memberOf(uint256 cohortId, uint256 seed) private view returns (address) {
        IModelRepository.Member[] memory members = repository.cohort(cohortId).members;
        return mostly(members.length == 0 ? address(0) : members[(seed / 8) % members.length].account, seed);
    }

    function seedOf(address account) private pure returns (bytes32) {
        return keccak256(abi.encode("seed", account));
    }

    function commitmentOf(uint256 roundId, address account) private view returns (bytes32) {
        IModelRepository.Round memory current = repository.round(roundId);
        if (current.state == IModelRepository.RoundState.None) return bytes32(uint256(1));
        IModelRepository.Member[] memory members = repository.cohort(current.cohortId).members;
        uint256 index = 0;
        while (index < members.length && members[index].account != account) index += 1;
        return keccak256(abi.encode(repository.contextOf(roundId), index, seedOf(account)));
    }
}
