// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelRepository} from "../../../src/ModelRepository.sol";
import {ILedger} from "../../../src/interfaces/ILedger.sol";
import {Base} from "../Base.sol";

/// @dev A member that is a contract, and decides what happens when it is paid.
contract Payee {
    enum Manner {
        Take,
        Refuse,
        BurnGas,
        AnswerAMegabyte,
        CallBack
    }

    ModelRepository private immutable repository;
    Manner private immutable manner;
    uint256 public attempts;

    constructor(ModelRepository repository_, Manner manner_) payable {
        repository = repository_;
        manner = manner_;
    }

    function join(uint256 modelId, uint256 cohortId, bytes32 key, uint256 bond) external {
        repository.join{value: bond}(modelId, cohortId, key, 1);
    }

    function leave(uint256 cohortId) external {
        repository.leave(cohortId);
    }

    function withdraw() external {
        repository.withdraw();
    }

    receive() external payable {
        if (manner == Manner.Refuse) revert("no, thank you");
        if (manner == Manner.BurnGas) while (true) attempts += 1;
        if (manner == Manner.AnswerAMegabyte) {
            assembly ("memory-safe") {
                return(0, 1000000)
            }
        }
        if (manner == Manner.CallBack) {
            attempts += 1;
            (bool isDone,) = address(repository).call(abi.encodeCall(ILedger.withdraw, ()));
            isDone; // it takes what it can get; its balance tells
        }
    }
}

contract WithdrawTest is Base {
    function test_RevertGiven_NothingIsOwed() external {
        vm.prank(stranger);
        refused(abi.encodeWithSelector(ILedger.Ledger_NothingToWithdraw.selector, stranger));
        repository.withdraw();
    }

    function test_RevertGiven_ThePayeeRefuses() external {
        Payee payee = givenPayee(Payee.Manner.Refuse);
        refused(abi.encodeWithSelector(ILedger.Ledger_PaymentRefused.selector, address(payee), uint256(BOND)));
        payee.withdraw();
        assertCredit(address(payee), BOND, "the debt stays");
        assertOthersArePaid();
    }

    function test_GivenThePayeeBurnsAllGas_HarmsNobodyElse() external {
        Payee payee = givenPayee(Payee.Manner.BurnGas);
        (bool isDone,) = address(payee).call{gas: 500_000}(abi.encodeCall(Payee.withdraw, ()));
        vm.assertFalse(isDone, "its own withdrawal fails");
        assertCredit(address(payee), BOND, "the debt stays");
        assertOthersArePaid();
    }

    function test_GivenThePayeeAnswersAMegabyte_HarmsNobodyElse() external {
        Payee payee = givenPayee(Payee.Manner.AnswerAMegabyte);
        payee.withdraw();
        assertCredit(address(payee), 0, "paid");
        assertOthersArePaid();
    }

    function test_GivenThePayeeCallsBack_IsPaidOnce() external {
        Payee payee = givenPayee(Payee.Manner.CallBack);
        payee.withdraw();
        vm.assertEq(payee.attempts(), 1, "it tried");
        vm.assertEq(address(payee).balance, BOND, "paid once");
        assertOthersArePaid();
    }

    function test_PaysEverythingThatIsOwed() external {
        givenEvaluating();
        report(200_000_000);
        leaveAs(0);
        uint256 owed = repository.creditOf(owners[0]);
        uint256 before = owners[0].balance;
        vm.expectEmit(address(repository));
        emit ILedger.Withdrawn(owners[0], owed);
        vm.prank(owners[0]);
        repository.withdraw();
        vm.assertTrue(owed > BOND, "reward and bond");
        vm.assertEq(owners[0].balance, before + owed, "paid");
        assertCredit(owners[0], 0, "nothing is owed");
        assertConserved();

        vm.prank(owners[0]);
        refused(abi.encodeWithSelector(ILedger.Ledger_NothingToWithdraw.selector, owners[0]));
        repository.withdraw();
    }

    /// @dev The payee is the third member; the cohort was closed, so everybody is owed a bond.
    function givenPayee(Payee.Manner manner) private returns (Payee payee) {
        givenModel();
        joinAs(0);
        joinAs(1);
        payee = new Payee{value: BOND}(repository, manner);
        payee.join(modelId, cohortId, maskingKeyOf(2), BOND);
        payee.leave(cohortId);
    }

    function assertOthersArePaid() private {
        for (uint256 i = 0; i < 2; i++) {
            uint256 before = owners[i].balance;
            vm.prank(owners[i]);
            repository.withdraw();
            vm.assertEq(owners[i].balance, before + BOND, "another member");
        }
        assertConserved();
    }
}
