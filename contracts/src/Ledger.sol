// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "./interfaces/ILedger.sol";

/// @title The only code that moves money in or out.
/// @dev Everything above this contract counts. To pay a bounty in an ERC-20 token, {_collect} and {_pay} are what changes.
abstract contract Ledger is ILedger {
    /// What each account may withdraw.
    mapping(address account => uint256 amount) private _creditOf;

    /// The sum of all credits.
    uint256 private _credits;

    /// @inheritdoc ILedger
    function withdraw() external {
        // Check
        uint256 amount = _creditOf[msg.sender];
        if (amount == 0) revert Ledger_NothingToWithdraw(msg.sender);

        // Effect
        _creditOf[msg.sender] = 0;
        _credits -= amount;
        emit Withdrawn(msg.sender, amount);

        // Interaction
        _pay(msg.sender, amount);
    }

    /// @inheritdoc ILedger
    function creditOf(address account) external view returns (uint256) {
        return _creditOf[account];
    }

    /// @dev Takes `amount` from the caller: to the wei, so that nothing is ever held that nobody owns.
    function _collect(uint256 amount) internal view {
        if (msg.value != amount) revert Ledger_WrongValue(amount, msg.value);
    }

    /// @dev Owes `amount` to `account`.
    function _owe(address account, uint256 amount) internal {
        _creditOf[account] += amount;
        _credits += amount;
    }

    /// @dev The sum of what is owed.
    function _totalCredits() internal view returns (uint256) {
        return _credits;
    }

    function _pay(address account, uint256 amount) private {
        (bool isTaken,) = account.call{value: amount}("");
        if (!isTaken) revert Ledger_PaymentRefused(account, amount);
    }
}
