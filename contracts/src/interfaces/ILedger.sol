// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What a contract owes, and how it is fetched: pull payments only.
interface ILedger {
    /// @notice An account fetched everything it was owed.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice The transaction carries another value than the call costs.
    error Ledger_WrongValue(uint256 expected, uint256 received);

    /// @notice Nothing is owed to this account.
    error Ledger_NothingToWithdraw(address account);

    /// @notice The account refused its own money; it stays owed.
    error Ledger_PaymentRefused(address account, uint256 amount);

    /// @notice Pays the caller everything it is owed.
    /// @dev Emits {Withdrawn}. A payee that refuses, or that calls back, harms nobody else: every account fetches for itself,
    /// and the debt is struck before the payment.
    /// @dev Requirements: the caller is owed something and takes it.
    function withdraw() external;

    /// @notice What an account may withdraw now, in wei.
    function creditOf(address account) external view returns (uint256);
}
