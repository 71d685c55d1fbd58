// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelRepository} from "../../src/ModelRepository.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";
import {Handler} from "./Handler.sol";
import {Reenterer, Refuser} from "./Payees.sol";
import {Watch} from "./Watch.sol";

/// @title No wei is created or lost, whatever eight accounts do, and everybody can always get out.
contract ConservationTest is Test {
    ModelRepository private repository;
    Handler private handler;
    address[] private actors;
    address private refuser;

    function setUp() external {
        vm.warp(1_800_000_000);
        repository = new ModelRepository(60);
        refuser = address(new Refuser());
        actors.push(refuser);
        actors.push(address(new Reenterer(repository)));
        for (uint256 i = 1; i <= 6; i++) {
            actors.push(vm.addr(i));
        }
        handler = new Handler(repository, actors);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_conservation() external view {
        (uint256 escrow, uint256 bonds, uint256 credits) = repository.totals();
        uint256 tracked = escrow + bonds + credits;
        vm.assertEq(address(repository).balance, tracked + handler.forced(), "balance != escrow + bonds + credits + forced");
        vm.assertEq(tracked + handler.withdrawn(), handler.deposited(), "held + withdrawn != deposited");

        uint256 owed = 0;
        for (uint256 i = 0; i < actors.length; i++) {
            owed += repository.creditOf(actors[i]);
        }
        vm.assertEq(owed, credits, "sum of the accounts' credits != credits");
        vm.assertEq(sumOfEscrows(), escrow, "sum of the models' escrows != escrow");
        vm.assertEq(sumOfBonds(), bonds, "sum of the open cohorts' bonds != bonds");

        uint256 bondsPaidIn = handler.deposited();
        for (uint256 id = 1; id <= repository.modelCount(); id++) {
            bondsPaidIn -= handler.escrowedFor(id);
            uint256 spent = handler.paidBy(id) + handler.refundedBy(id);
            IModelRepository.Model memory model = repository.model(id);
            vm.assertEq(spent + model.escrow, handler.escrowedFor(id), "paid + refunded + escrow != deposited");
            vm.assertLe(
                handler.paidBy(id),
                model.terms.bounty + uint256(model.terms.baseFee) * model.roundsPaid,
                "paid > bounty + base fee * paid rounds"
            );
        }
        vm.assertEq(handler.bondsBack() + bonds, bondsPaidIn, "bonds back + held != paid in");
    }

    /// Time passes, and each account acts alone: nobody's money can be held back by anybody else.
    function afterInvariant() external {
        Watch watch = handler.watch();
        watch.lookBack();
        vm.warp(block.timestamp + 60 days);
        for (uint256 id = 1; id <= watch.roundCount(); id++) {
            if (repository.model(repository.round(id).modelId).roundInFlight == id) repository.expireRound(id);
        }
        for (uint256 id = 1; id <= repository.modelCount(); id++) {
            if (repository.model(id).isClosed) continue;
            vm.prank(repository.model(id).lender);
            repository.closeModel(id);
        }
        for (uint256 id = 1; id <= watch.cohortCount(); id++) {
            while (!repository.cohort(id).isClosed && repository.cohort(id).members.length != 0) {
                address member = repository.cohort(id).members[0].account;
                vm.prank(member);
                repository.leave(id);
            }
        }
        for (uint256 i = 0; i < actors.length; i++) {
            if (actors[i] == refuser || repository.creditOf(actors[i]) == 0) continue;
            vm.prank(actors[i]);
            repository.withdraw();
        }
        uint256 left = repository.creditOf(refuser) + handler.forced();
        vm.assertEq(address(repository).balance, left, "after everybody left: balance != the refuser's credit + forced");
    }

    function sumOfEscrows() private view returns (uint256 sum) {
        for (uint256 id = 1; id <= repository.modelCount(); id++) {
            sum += repository.model(id).escrow;
        }
    }

    function sumOfBonds() private view returns (uint256 sum) {
        for (uint256 id = 1; id <= handler.watch().cohortCount(); id++) {
            IModelRepository.Cohort memory cohort = repository.cohort(id);
            if (!cohort.isClosed) sum += uint256(repository.model(cohort.modelId).terms.memberBond) * cohort.members.length;
        }
    }
}
