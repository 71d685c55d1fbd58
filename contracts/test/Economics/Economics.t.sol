// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Economics} from "../../src/Economics.sol";
import {Test} from "../Test.sol";

contract EconomicsTest is Test {
    string private constant VECTORS = "../tests/fixtures/economics_vectors.json";

    function test_Progress_GivenTheGoldenVectors_Agrees() external view {
        string memory json = vm.readFile(VECTORS);
        uint256 count = 0;
        for (string memory at = row("progress", 0); vm.keyExistsJson(json, at); at = row("progress", count)) {
            uint256 earned = Economics.progress(
                uint128(field(json, at, "bounty")),
                uint64(field(json, at, "initialError")),
                uint64(field(json, at, "targetError")),
                uint64(field(json, at, "error"))
            );
            vm.assertEq(earned, field(json, at, "progress"), at);
            count += 1;
        }
        vm.assertGe(count, 50, "vectors read");
    }

    function test_Reward_GivenTheGoldenVectors_Agrees() external view {
        string memory json = vm.readFile(VECTORS);
        uint256 count = 0;
        for (string memory at = row("reward", 0); vm.keyExistsJson(json, at); at = row("reward", count)) {
            uint256 earned = Economics.reward(
                uint128(field(json, at, "bounty")),
                uint64(field(json, at, "initialError")),
                uint64(field(json, at, "targetError")),
                uint64(field(json, at, "bestError")),
                uint64(field(json, at, "newError"))
            );
            vm.assertEq(earned, field(json, at, "reward"), at);
            count += 1;
        }
        vm.assertGe(count, 50, "vectors read");
    }

    function test_Share_GivenTheGoldenVectors_Agrees() external view {
        string memory json = vm.readFile(VECTORS);
        uint256 count = 0;
        for (string memory at = row("split", 0); vm.keyExistsJson(json, at); at = row("split", count)) {
            uint256 pool = field(json, at, "pool");
            uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(at, ".weights"));
            uint256[] memory shares = vm.parseJsonUintArray(json, string.concat(at, ".shares"));
            uint256 total = sumOf(weights);
            uint256 before = 0;
            for (uint256 i = 0; i < weights.length; i++) {
                vm.assertEq(Economics.share(pool, before, weights[i], total), shares[i], at);
                before += weights[i];
            }
            count += 1;
        }
        vm.assertGe(count, 10, "vectors read");
    }

    function testFuzz_Progress_IsWithinOneWeiOfLinear(uint128 bounty, uint64 first, uint64 second, uint64 error) external pure {
        vm.assume(first != second);
        (uint64 initial, uint64 target) = first > second ? (first, second) : (second, first);
        uint256 solved = error >= initial ? 0 : error <= target ? initial - target : initial - error;
        uint256 total = initial - target;
        uint256 earned = Economics.progress(bounty, initial, target, error);
        vm.assertLe(earned, bounty, "progress > bounty");
        vm.assertLe(earned * total, uint256(bounty) * solved, "progress > linear");
        vm.assertLe(uint256(bounty) * solved, earned * total + total - 1, "progress <= linear - 1 wei");
    }

    function testFuzz_Reward_AddsUpToTheProgressOfTheBestError(uint128 bounty, uint64 first, uint64 second, uint64[8] calldata path)
        external
        pure
    {
        vm.assume(first != second);
        (uint64 initial, uint64 target) = first > second ? (first, second) : (second, first);
        uint64 best = initial;
        uint256 earned = 0;
        for (uint256 i = 0; i < path.length; i++) {
            uint64 newError = i % 2 == 0 ? path[i] : uint64(bound(path[i], target, initial));
            earned += Economics.reward(bounty, initial, target, best, newError);
            if (newError < best) best = newError;
        }
        vm.assertEq(earned, Economics.progress(bounty, initial, target, best), "sum of rewards != progress(best)");
        vm.assertLe(earned, bounty, "sum of rewards > bounty");
        earned += Economics.reward(bounty, initial, target, best, target);
        vm.assertEq(earned, bounty, "at the target: sum of rewards != bounty");
    }

    function testFuzz_Share_AddsUpToThePool(uint128 pool, uint32[16] calldata weights, uint256 count) external pure {
        count = bound(count, 1, weights.length);
        uint256 total = 0;
        for (uint256 i = 0; i < count; i++) {
            total += bound(weights[i], 1, type(uint32).max);
        }
        uint256 before = 0;
        uint256 paid = 0;
        for (uint256 i = 0; i < count; i++) {
            uint256 weight = bound(weights[i], 1, type(uint32).max);
            uint256 part = Economics.share(pool, before, weight, total);
            vm.assertLe(part * total, pool * weight + total - 1, "share >= linear + 1 wei");
            vm.assertLe(pool * weight, part * total + total - 1, "share <= linear - 1 wei");
            before += weight;
            paid += part;
        }
        vm.assertEq(paid, pool, "sum of shares != pool");
    }

    function row(string memory table, uint256 index) private pure returns (string memory) {
        return string.concat(".", table, "[", vm.toString(index), "]");
    }

    function field(string memory json, string memory at, string memory name) private pure returns (uint256) {
        return vm.parseJsonUint(json, string.concat(at, ".", name));
    }

    function sumOf(uint256[] memory values) private pure returns (uint256 sum) {
        for (uint256 i = 0; i < values.length; i++) {
            sum += values[i];
        }
    }
}
