// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelRepository} from "../../src/ModelRepository.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";

/// @title A market with one lender and three data owners, and the way to every state of a round.
/// @dev The numbers are chosen so that nothing divides evenly.
abstract contract Base is Test {
    uint32 internal constant MINIMUM_WINDOW = 60;
    uint128 internal constant BOUNTY = 1 ether + 7;
    uint128 internal constant BASE_FEE = 0.01 ether + 1;
    uint128 internal constant BOND = 0.05 ether + 3;
    uint64 internal constant INITIAL_ERROR = 250_000_000;
    uint64 internal constant TARGET_ERROR = 150_000_011;
    uint32 internal constant MAX_ROUNDS = 4;
    uint256 internal constant ESCROW = BOUNTY + uint256(BASE_FEE) * MAX_ROUNDS;

    bytes32 internal constant MANIFEST = keccak256("manifest");
    bytes32 internal constant WEIGHTS = keccak256("weights");
    bytes32 internal constant NEW_WEIGHTS = keccak256("new weights");
    bytes32 internal constant REPORT = keccak256("report");

    ModelRepository internal repository;
    address internal lender = vm.addr(100);
    address internal stranger = vm.addr(101);
    address[] internal owners;
    uint256 internal modelId;
    uint256 internal cohortId;
    uint256 internal roundId;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        repository = new ModelRepository(MINIMUM_WINDOW);
        vm.deal(lender, 100 ether);
        vm.deal(stranger, 100 ether);
        for (uint256 i = 0; i < 3; i++) {
            owners.push(vm.addr(1 + i));
            vm.deal(owners[i], 100 ether);
        }
    }

    function defaultTerms() internal view returns (IModelRepository.Terms memory) {
        return IModelRepository.Terms({
            bounty: BOUNTY,
            baseFee: BASE_FEE,
            memberBond: BOND,
            initialError: INITIAL_ERROR,
            targetError: TARGET_ERROR,
            maxRounds: MAX_ROUNDS,
            cohortSize: 3,
            rowCap: 10_000,
            splitRule: IModelRepository.SplitRule.ByRows,
            submitWindow: 100,
            acceptWindow: 200,
            unlockWindow: 300,
            evaluateWindow: 400,
            trainingDeadline: uint64(block.timestamp + 30 days)
        });
    }

    // ------------------------------------------------------------------------------------------------- the way to a state

    function givenModel() internal {
        givenModel(defaultTerms());
    }

    function givenModel(IModelRepository.Terms memory terms) internal {
        uint256 escrow = terms.bounty + uint256(terms.baseFee) * terms.maxRounds;
        vm.prank(lender);
        modelId = repository.createModel{value: escrow}(terms, MANIFEST, WEIGHTS);
        cohortId = repository.model(modelId).formingCohortId;
    }

    function givenSealedCohort() internal {
        givenModel();
        joinAll();
    }

    function givenSubmitting() internal {
        givenSealedCohort();
        open();
    }

    function givenAccepting() internal {
        givenSubmitting();
        submitAll();
    }

    function givenUnlocking() internal {
        givenAccepting();
        accept();
    }

    function givenEvaluating() internal {
        givenUnlocking();
        unlockAll();
    }

    // ------------------------------------------------------------------------------------------------------- single steps

    function joinAs(uint256 index) internal {
        uint256 bond = repository.model(modelId).terms.memberBond;
        vm.prank(owners[index]);
        repository.join{value: bond}(modelId, cohortId, maskingKeyOf(index), rowsOf(index));
    }

    function joinAll() internal {
        for (uint256 i = 0; i < owners.length; i++) {
            joinAs(i);
        }
    }

    function open() internal {
        vm.prank(lender);
        roundId = repository.openRound(cohortId);
    }

    function submitAs(uint256 index) internal {
        bytes32 commitment = commitmentOf(index);
        vm.prank(owners[index]);
        repository.submitGradient(roundId, gradientOf(index), commitment);
    }

    function submitAll() internal {
        for (uint256 i = 0; i < owners.length; i++) {
            submitAs(i);
        }
    }

    function accept() internal {
        vm.prank(lender);
        repository.acceptSubmissions(roundId);
    }

    function unlockAs(uint256 index) internal {
        vm.prank(owners[index]);
        repository.unlock(roundId, seedOf(index));
    }

    function unlockAll() internal {
        for (uint256 i = 0; i < owners.length; i++) {
            unlockAs(i);
        }
    }

    function report(uint64 newError) internal {
        vm.prank(lender);
        repository.reportRound(roundId, newError, NEW_WEIGHTS, REPORT);
    }

    function leaveAs(uint256 index) internal {
        vm.prank(owners[index]);
        repository.leave(cohortId);
    }

    function passDeadline() internal {
        vm.warp(uint256(repository.round(roundId).deadline) + 1);
    }

    // ---------------------------------------------------------------------------------------------------- what they send

    function maskingKeyOf(uint256 index) internal pure returns (bytes32) {
        return keccak256(abi.encode("masking key", index));
    }

    function rowsOf(uint256 index) internal pure returns (uint32) {
        // forge-lint: disable-next-line(unsafe-typecast) at most 64 owners
        return uint32(1000 + 701 * index);
    }

    function totalRows() internal view returns (uint256 total) {
        for (uint256 i = 0; i < owners.length; i++) {
            total += rowsOf(i);
        }
    }

    function gradientOf(uint256 index) internal view returns (bytes32) {
        return keccak256(abi.encode("gradient", roundId, index));
    }

    function seedOf(uint256 index) internal view returns (bytes32) {
        return keccak256(abi.encode("seed", roundId, index));
    }

    function commitmentOf(uint256 index) internal view returns (bytes32) {
        return keccak256(abi.encode(repository.contextOf(roundId), index, seedOf(index)));
    }

    // ------------------------------------------------------------------------------------------------- what must hold

    function refused(bytes memory reason) internal {
        vm.expectRevert(reason);
    }

    function expectCredit(address account, IModelRepository.CreditReason reason, uint256 amount) internal {
        vm.expectEmit(address(repository));
        emit IModelRepository.Credited(account, modelId, reason, amount);
    }

    function assertCredit(address account, uint256 amount, string memory label) internal view {
        vm.assertEq(repository.creditOf(account), amount, label);
    }

    function assertRoundState(IModelRepository.RoundState state) internal view {
        vm.assertEq(uint256(repository.round(roundId).state), uint256(state), "round state");
    }

    function assertModelState(IModelRepository.ModelState state) internal view {
        vm.assertEq(uint256(repository.model(modelId).state), uint256(state), "model state");
    }

    /// @dev Every wei of the contract is somebody's: the equality of PROTOCOL §6, no ether having been forced in.
    function assertConserved() internal view {
        (uint256 escrow, uint256 bonds, uint256 credits) = repository.totals();
        vm.assertEq(address(repository).balance, escrow + bonds + credits, "balance != escrow + bonds + credits");
        vm.assertEq(repository.model(modelId).escrow, escrow, "the only model's escrow");
    }
}
