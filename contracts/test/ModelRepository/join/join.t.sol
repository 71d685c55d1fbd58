// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../../../src/interfaces/ILedger.sol";
import {IModelRepository} from "../../../src/interfaces/IModelRepository.sol";
import {Base} from "../Base.sol";

contract JoinTest is Base {
    bytes32 private constant KEY = keccak256("a key");

    function test_RevertGiven_TheModelDoesNotExist() external {
        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_ModelNotOpen.selector, 9, IModelRepository.ModelState.None));
        repository.join{value: BOND}(9, 0, KEY, 1);
    }

    function test_RevertGiven_TheModelIsExpired() external {
        givenModel();
        vm.warp(block.timestamp + 30 days + 1);
        refused(
            abi.encodeWithSelector(IModelRepository.ModelRepository_ModelNotOpen.selector, modelId, IModelRepository.ModelState.Expired)
        );
        join(owners[0], KEY, 1);
    }

    function test_RevertGiven_TheModelHasEnded() external {
        givenModel();
        vm.prank(lender);
        repository.closeModel(modelId);
        refused(
            abi.encodeWithSelector(IModelRepository.ModelRepository_ModelNotOpen.selector, modelId, IModelRepository.ModelState.Cancelled)
        );
        join(owners[0], KEY, 1);
    }

    function test_RevertWhen_TheExpectedCohortIsNotTheFormingOne() external {
        givenSealedCohort();
        vm.prank(stranger);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_CohortNotForming.selector, cohortId, cohortId + 1));
        repository.join{value: BOND}(modelId, cohortId, KEY, 1);
    }

    function test_RevertWhen_TheRowsAreOutOfRange() external {
        givenModel();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RowsOutOfRange.selector, 0, 10_000));
        join(owners[0], KEY, 0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_RowsOutOfRange.selector, 10_001, 10_000));
        join(owners[0], KEY, 10_001);
    }

    function test_RevertWhen_TheMaskingKeyIsZero() external {
        givenModel();
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_EmptyWord.selector, "maskingKey"));
        join(owners[0], bytes32(0), 1);
    }

    function test_RevertGiven_TheCallerIsAMember() external {
        givenModel();
        joinAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_AlreadyMember.selector, cohortId, owners[0]));
        join(owners[0], KEY, 1);
    }

    function test_RevertGiven_TheMaskingKeyIsAMembers() external {
        givenModel();
        joinAs(0);
        refused(abi.encodeWithSelector(IModelRepository.ModelRepository_MaskingKeyTaken.selector, cohortId, maskingKeyOf(0)));
        join(owners[1], maskingKeyOf(0), 1);
    }

    function testFuzz_RevertWhen_TheValueIsNotTheBond(uint256 value) external {
        value = bound(value, 0, 1 ether);
        vm.assume(value != BOND);
        givenModel();
        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(ILedger.Ledger_WrongValue.selector, uint256(BOND), value));
        repository.join{value: value}(modelId, cohortId, KEY, 1);
    }

    function test_GivenPlacesAreLeft_TakesTheNextPlace() external {
        givenModel();
        joinAs(0);
        vm.expectEmit(address(repository));
        emit IModelRepository.MemberJoined(modelId, cohortId, owners[1], maskingKeyOf(1), rowsOf(1));
        joinAs(1);

        IModelRepository.Cohort memory forming = repository.cohort(cohortId);
        vm.assertEq(forming.members.length, 2, "members");
        vm.assertEq(forming.members[1].account, owners[1], "account");
        vm.assertEq(forming.members[1].maskingKey, maskingKeyOf(1), "masking key");
        vm.assertEq(forming.members[1].rows, rowsOf(1), "rows");
        vm.assertEq(forming.totalRows, rowsOf(0) + rowsOf(1), "total rows");
        vm.assertFalse(forming.isSealed, "not sealed");
        vm.assertEq(forming.membersHash, bytes32(0), "no hash before the seal");
        (, uint256 bonds,) = repository.totals();
        vm.assertEq(bonds, 2 * uint256(BOND), "bonds");
        assertConserved();
    }

    function test_GivenTheLastPlace_SealsTheCohort() external {
        givenModel();
        joinAs(0);
        joinAs(1);
        address[] memory accounts = new address[](3);
        bytes32[] memory keys = new bytes32[](3);
        uint32[] memory rows = new uint32[](3);
        for (uint256 i = 0; i < 3; i++) {
            (accounts[i], keys[i], rows[i]) = (owners[i], maskingKeyOf(i), rowsOf(i));
        }
        bytes32 membersHash = keccak256(abi.encode(accounts, keys, rows));
        vm.expectEmit(address(repository));
        emit IModelRepository.MemberJoined(modelId, cohortId, owners[2], maskingKeyOf(2), rowsOf(2));
        vm.expectEmit(address(repository));
        emit IModelRepository.CohortSealed(modelId, cohortId, membersHash, uint64(totalRows()), cohortId + 1);
        joinAs(2);

        vm.assertTrue(repository.cohort(cohortId).isSealed, "sealed");
        vm.assertEq(repository.cohort(cohortId).membersHash, membersHash, "members hash");
        vm.assertEq(repository.model(modelId).formingCohortId, cohortId + 1, "next cohort");
        vm.assertEq(repository.cohort(cohortId + 1).modelId, modelId, "of the same model");
    }

    function test_GivenACohortOfOne_SealsAtOnce() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.cohortSize = 1;
        givenModel(terms);
        joinAs(0);
        vm.assertTrue(repository.cohort(cohortId).isSealed, "sealed");
    }

    function test_GivenAMemberOfAnotherCohort_JoinsTheNextWithTheSameKey() external {
        givenSealedCohort();
        cohortId = repository.model(modelId).formingCohortId;
        joinAs(0);
        vm.assertEq(repository.cohort(cohortId).members.length, 1, "members of the next cohort");
    }

    function test_GivenTheLargestCohort_SealingFitsABlock() external {
        IModelRepository.Terms memory terms = defaultTerms();
        terms.cohortSize = 64;
        givenModel(terms);
        uint256 most = 0;
        for (uint256 i = 0; i < 64; i++) {
            address member = vm.addr(1000 + i);
            vm.deal(member, 1 ether);
            vm.prank(member);
            uint256 before = gasleft();
            repository.join{value: BOND}(modelId, cohortId, bytes32(1 + i), 10_000);
            uint256 used = before - gasleft();
            if (used > most) most = used;
        }
        vm.assertTrue(repository.cohort(cohortId).isSealed, "sealed");
        vm.assertLe(most, 1_000_000, "gas of the dearest join");
    }

    function join(address account, bytes32 maskingKey, uint32 rows) private {
        vm.prank(account);
        repository.join{value: BOND}(modelId, cohortId, maskingKey, rows);
    }
}
