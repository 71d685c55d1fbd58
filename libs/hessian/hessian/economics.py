"""What work earns (PROTOCOL §6): the same integers as contracts/src/Economics.sol, to the wei.

Nodes use it to show what a report will pay before it is sent and to check what the chain credited. Errors are billionths, money is wei,
and every division rounds down. tests/fixtures/economics_vectors.json binds this file and the contract to the same golden numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from hessian.errors import Malformed
from hessian.identifiers import ErrorUnits, Wei


class TermsRefused(Malformed):
    """The contract would refuse these terms."""


class SplitRefused(Malformed):
    """There is nothing to split, or nobody to split it among."""


def escrow(bounty: Wei, base_fee: Wei, max_rounds: int) -> Wei:
    """What a model costs its lender at its creation: the bounty, and the base fee of every round that can be paid."""
    return Wei(bounty + base_fee * max_rounds)


def progress(bounty: Wei, initial_error: ErrorUnits, target_error: ErrorUnits, error: ErrorUnits) -> Wei:
    """What a model has earned in all when its error stands at `error`.

    ⌊bounty · (initial − clamp(error, target, initial)) / (initial − target)⌋: nothing at the initial error or above, the whole bounty at
    the target or below. Raises TermsRefused when the initial error is not above the target.
    """
    if initial_error <= target_error:
        raise TermsRefused("the initial error must be above the target error")
    clamped = min(max(error, target_error), initial_error)
    return Wei(bounty * (initial_error - clamped) // (initial_error - target_error))


def reward(bounty: Wei, initial_error: ErrorUnits, target_error: ErrorUnits, best_error: ErrorUnits, new_error: ErrorUnits) -> Wei:
    """What a report of `new_error` earns after `best_error`, base fee not included; nothing unless it is better.

    The rewards of any sequence of reports add up to the progress of its best error. A lender that defaults pays the reward of
    `new_error = target_error`. Raises TermsRefused.
    """
    earned = progress(bounty, initial_error, target_error, best_error)
    return Wei(max(0, progress(bounty, initial_error, target_error, new_error) - earned))


def split(pool: Wei, weights: Sequence[int]) -> list[Wei]:
    """Divide a pool among a cohort's members by weight: declared rows, or 1 each.

    Differences of rounded prefix sums, so that the parts add up to the pool exactly and none is more than 1 wei from its share.
    Raises SplitRefused.
    """
    if pool < 0 or not weights or min(weights) < 1:
        raise SplitRefused("a pool is split among at least one member, each with a weight of at least 1")
    total = sum(weights)
    edges = [pool * prefix // total for prefix in accumulate(weights, initial=0)]
    return [Wei(after - before) for before, after in pairwise(edges)]
