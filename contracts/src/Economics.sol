// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title The arithmetic of the bounty.
/// @dev Mirrored to the wei by libs/hessian/hessian/economics.py; tests/fixtures/economics_vectors.json binds the two.
library Economics {
    /// @notice What a model has earned in all when its error stands at `currentError`: linear in the error, nothing at the initial
    /// error or above, the whole bounty at the target or below.
    function progress(uint128 bounty, uint64 initialError, uint64 targetError, uint64 currentError) internal pure returns (uint256) {
        if (currentError >= initialError) return 0;
        if (currentError <= targetError) return bounty;
        return (uint256(bounty) * (initialError - currentError)) / (initialError - targetError);
    }

    /// @notice What a report of `newError` earns after `bestError`: the difference of two progresses, so that the rewards of any path add
    /// up to the progress of its best error.
    function reward(uint128 bounty, uint64 initialError, uint64 targetError, uint64 bestError, uint64 newError)
        internal
        pure
        returns (uint256)
    {
        if (newError >= bestError) return 0;
        return progress(bounty, initialError, targetError, newError) - progress(bounty, initialError, targetError, bestError);
    }

    /// @notice The part of `pool` that falls to a weight which follows `weightBefore` of `totalWeight`: the difference of two rounded prefix
    /// sums, so that the parts add up to the pool exactly.
    function share(uint256 pool, uint256 weightBefore, uint256 weight, uint256 totalWeight) internal pure returns (uint256) {
        return (pool * (weightBefore + weight)) / totalWeight - (pool * weightBefore) / totalWeight;
    }
}
