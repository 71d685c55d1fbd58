// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelRepository} from "./interfaces/IModelRepository.sol";

/// @title Which terms a lender may offer.
library TermRules {
    /// The largest cohort: ending a round pays every member in one transaction, and must always fit a block.
    uint16 internal constant LARGEST_COHORT = 64;
    uint32 internal constant LONGEST_WINDOW = 14 days;
    uint64 internal constant LONGEST_TRAINING = 730 days;

    /// @dev Names the first term that is out of range.
    function requireValid(IModelRepository.Terms calldata terms, uint32 minimumWindow) internal view {
        requireRange("bounty", terms.bounty, 1, type(uint128).max);
        requireRange("memberBond", terms.memberBond, terms.baseFee, type(uint128).max);
        requireRange("initialError", terms.initialError, uint256(terms.targetError) + 1, type(uint64).max);
        requireRange("maxRounds", terms.maxRounds, 1, type(uint32).max);
        requireRange("cohortSize", terms.cohortSize, 1, LARGEST_COHORT);
        requireRange("rowCap", terms.rowCap, 1, type(uint32).max);
        requireRange("submitWindow", terms.submitWindow, minimumWindow, LONGEST_WINDOW);
        requireRange("acceptWindow", terms.acceptWindow, minimumWindow, LONGEST_WINDOW);
        requireRange("unlockWindow", terms.unlockWindow, minimumWindow, LONGEST_WINDOW);
        requireRange("evaluateWindow", terms.evaluateWindow, minimumWindow, LONGEST_WINDOW);
        requireRange("trainingDeadline", terms.trainingDeadline, block.timestamp + 1, block.timestamp + LONGEST_TRAINING);
    }

    function requireRange(string memory term, uint256 value, uint256 least, uint256 most) internal pure {
        if (value < least || value > most) revert IModelRepository.ModelRepository_TermOutOfRange(term, value, least, most);
    }
}
