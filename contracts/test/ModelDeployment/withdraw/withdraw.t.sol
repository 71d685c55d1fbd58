// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../../../src/interfaces/ILedger.sol";
import {Refuser, ServingReenterer} from "../../invariant/Payees.sol";
import {ServingBase} from "../ServingBase.sol";

contract ServingWithdrawTest is ServingBase {
    function test_RevertGiven_NothingIsOwed() external {
        refuseNothing(stranger);
    }

    function test_RevertGiven_TheRequestIsWaiting() external {
        givenWaiting();
        refuseNothing(borrower);
        refuseNothing(lender);
        passAnswerDeadline();
        refuseNothing(borrower); // not before somebody expires it
        assertHeld(FEE, 0, 0);
    }

    function test_RevertGiven_ThePayeeRefuses() external {
        borrower = address(new Refuser());
        givenBothOwed();
        vm.prank(borrower);
        refused(abi.encodeWithSelector(ILedger.Ledger_PaymentRefused.selector, borrower, uint256(FEE)));
        deployments.withdraw();
        assertHeld(0, FEE, FEE);
        take(lender, FEE);
        assertHeld(0, 0, FEE);
    }

    function test_GivenThePayeeCallsBack_IsPaidOnce() external {
        borrower = address(new ServingReenterer(deployments));
        givenBothOwed();
        take(borrower, FEE);
        assertHeld(0, FEE, 0);
    }

    function test_GivenEtherWasForcedIn_PaysWhatIsOwed() external {
        givenBothOwed();
        vm.deal(address(deployments), address(deployments).balance + 1 ether);
        take(lender, FEE);
        take(borrower, FEE);
        vm.assertEq(address(deployments).balance, 1 ether, "nobody's");
    }

    function test_PaysEverythingThatIsOwed() external {
        givenAnswered();
        givenAnswered();
        borrower = lender; // who may ask, too
        givenExpired();
        vm.expectEmit(address(deployments));
        emit ILedger.Withdrawn(lender, 3 * uint256(FEE));
        take(lender, 3 * uint256(FEE));
        refuseNothing(lender);
        vm.assertEq(address(deployments).balance, 0, "nothing stays");
    }

    /// @dev One fee for the lender, one back for the borrower.
    function givenBothOwed() private {
        vm.deal(borrower, 2 * uint256(FEE));
        givenAnswered();
        givenExpired();
        assertHeld(0, FEE, FEE);
    }

    function take(address account, uint256 amount) private {
        uint256 before = account.balance;
        vm.prank(account);
        deployments.withdraw();
        vm.assertEq(account.balance, before + amount, "paid");
        vm.assertEq(deployments.creditOf(account), 0, "nothing is owed");
    }

    function refuseNothing(address account) private {
        vm.prank(account);
        refused(abi.encodeWithSelector(ILedger.Ledger_NothingToWithdraw.selector, account));
        deployments.withdraw();
    }
}
