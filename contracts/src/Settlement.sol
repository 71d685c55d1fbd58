// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Economics} from "./Economics.sol";
import {Ledger} from "./Ledger.sol";
import {Records} from "./Records.sol";
import {IModelRepository} from "./interfaces/IModelRepository.sol";

/// @title Where escrow and bonds go.
/// @dev Every wei is in one of three places, and only this file moves it between them: a model's escrow, an open cohort's bonds, an account's
/// credit.
abstract contract Settlement is Records, Ledger {
    uint256 private _totalEscrow;
    uint256 private _totalBonds;

    /// @inheritdoc IModelRepository
    function totals() external view returns (uint256 escrow, uint256 bonds, uint256 credits) {
        return (_totalEscrow, _totalBonds, _totalCredits());
    }

    // ---------------------------------------------------------------------------------------------------------------- escrow

    function _holdEscrow(uint256 modelId, uint256 amount) internal {
        _models[modelId].escrow = amount;
        _totalEscrow += amount;
    }

    function _refundEscrow(uint256 modelId) internal {
        uint256 refund = _models[modelId].escrow;
        _spendEscrow(modelId, refund);
        _credit(_models[modelId].lender, modelId, CreditReason.Refund, refund);
    }

    function _payCohort(uint256 cohortId, uint256 pool) internal {
        Cohort storage paid = _cohorts[cohortId];
        uint256 modelId = paid.modelId;
        uint256 size = paid.members.length;
        bool isByRows = _models[modelId].terms.splitRule == SplitRule.ByRows;
        uint256 total = isByRows ? paid.totalRows : size;
        uint256 before = 0;
        _spendEscrow(modelId, pool);
        for (uint256 i = 0; i < size; i++) {
            Member storage member = paid.members[i];
            uint256 weight = isByRows ? member.rows : 1;
            _credit(member.account, modelId, CreditReason.Reward, Economics.share(pool, before, weight, total));
            before += weight;
        }
    }

    /// @dev What the model owes for an error of `newError`, its best so far being what it is.
    function _rewardFor(uint256 modelId, uint64 newError) internal view returns (uint256) {
        Model storage judged = _models[modelId];
        Terms storage terms = judged.terms;
        return Economics.reward(terms.bounty, terms.initialError, terms.targetError, judged.bestError, newError);
    }

    // ----------------------------------------------------------------------------------------------------------------- bonds

    function _holdBond(uint256 modelId) internal {
        _totalBonds += _models[modelId].terms.memberBond;
    }

    function _returnBond(uint256 modelId, address account) internal {
        uint256 bond = _models[modelId].terms.memberBond;
        _totalBonds -= bond;
        _credit(account, modelId, CreditReason.Bond, bond);
    }

    function _returnBonds(uint256 cohortId) internal {
        Cohort storage closed = _cohorts[cohortId];
        uint256 modelId = closed.modelId;
        uint256 size = closed.members.length;
        for (uint256 i = 0; i < size; i++) {
            _returnBond(modelId, closed.members[i].account);
        }
    }

    /// @dev The bonds of the members who were silent in `stage`, Submitting or Unlocking, go in equal parts to those who were not. If nobody
    /// submitted, nobody was harmed and all are returned; if nobody unlocked, the lender was, whose acceptance they waited for.
    function _forfeitBonds(uint256 roundId, RoundState stage) internal {
        Round storage ended = _rounds[roundId];
        uint256 modelId = ended.modelId;
        Member[] storage members = _cohorts[ended.cohortId].members;
        bool isUnlocking = stage == RoundState.Unlocking;
        uint256 faithful = isUnlocking ? ended.unlocked : ended.submitted;
        if (faithful == 0 && !isUnlocking) return _returnBonds(ended.cohortId);

        uint256 size = members.length;
        uint256 forfeited = _models[modelId].terms.memberBond * (size - faithful);
        _totalBonds -= forfeited;
        if (faithful == 0) return _credit(_models[modelId].lender, modelId, CreditReason.Forfeit, forfeited);

        uint256 before = 0;
        for (uint256 i = 0; i < size; i++) {
            bool isFaithful = isUnlocking ? ended.submissions[i].isUnlocked : _hasSubmitted(roundId, i);
            if (!isFaithful) continue;
            _returnBond(modelId, members[i].account);
            _credit(members[i].account, modelId, CreditReason.Forfeit, Economics.share(forfeited, before, 1, faithful));
            before += 1;
        }
    }

    // --------------------------------------------------------------------------------------------------------------- private

    function _spendEscrow(uint256 modelId, uint256 amount) private {
        _models[modelId].escrow -= amount;
        _totalEscrow -= amount;
    }

    function _credit(address account, uint256 modelId, CreditReason reason, uint256 amount) private {
        if (amount == 0) return;
        _owe(account, amount);
        emit Credited(account, modelId, reason, amount);
    }
}
