// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title The part of forge's cheat codes that these tests use.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function addr(uint256 privateKey) external pure returns (address);
    function assume(bool condition) external pure;
    function deal(address account, uint256 newBalance) external;
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function warp(uint256 newTimestamp) external;

    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function expectEmit(address emitter) external;
    function expectRevert(bytes calldata revertData) external;
    function expectRevert() external;

    function readFile(string calldata path) external view returns (string memory);
    function keyExistsJson(string calldata json, string calldata key) external view returns (bool);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function parseJsonUintArray(string calldata json, string calldata key) external pure returns (uint256[] memory);
    function toString(uint256 value) external pure returns (string memory);

    function assertEq(uint256 left, uint256 right, string calldata label) external pure;
    function assertEq(bytes32 left, bytes32 right, string calldata label) external pure;
    function assertEq(address left, address right, string calldata label) external pure;
    function assertGe(uint256 left, uint256 right, string calldata label) external pure;
    function assertLe(uint256 left, uint256 right, string calldata label) external pure;
    function assertTrue(bool condition, string calldata label) external pure;
    function assertFalse(bool condition, string calldata label) external pure;
}
