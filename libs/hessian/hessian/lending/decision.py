"""From a score to a decision and a rate, in exact integers (PROTOCOL §10): the same for private, open and plaintext alike.

r = ⌈ (10⁴·(funding + margin) + PD·LGD) / (10⁴ − PD) ⌉          all in basis points
approve  iff  PD ≤ cutoff  and  r ≤ cap;  the rate is r rounded up to its tier, the last tier ending at the cap
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from hessian.learning.calibration import WHOLE_BPS, CalibrationTable
from hessian.learning.features import FeatureSpecification
from hessian.lending.policy import MOST_REASONS, RatePolicy


@dataclass(frozen=True)
class Decision:
    """What a score comes to. `band` and its probability `pd_bps`; `rate_bps` None on a decline."""

    approved: bool
    band: int
    pd_bps: int
    rate_bps: int | None


def break_even_rate(policy: RatePolicy, pd_bps: int) -> int:
    """r: what must be asked so that the expected loss, the funding and the margin are covered. Rounded up."""
    return -(-(WHOLE_BPS * (policy.funding_bps + policy.margin_bps) + pd_bps * policy.lgd_bps) // (WHOLE_BPS - pd_bps))


def decide(policy: RatePolicy, table: CalibrationTable, score: int) -> Decision:
    """The decision on a score at the scoring scale."""
    band = table.band_of(score)
    pd_bps = table.probabilities[band]
    rate = break_even_rate(policy, pd_bps)
    if pd_bps > policy.cutoff_bps or rate > policy.cap_bps:
        return Decision(approved=False, band=band, pd_bps=pd_bps, rate_bps=None)
    tier = -(-rate // policy.tier_step_bps) * policy.tier_step_bps
    return Decision(approved=True, band=band, pd_bps=pd_bps, rate_bps=min(tier, policy.cap_bps))


def decisions_by_band(policy: RatePolicy, table: CalibrationTable) -> tuple[Decision, ...]:
    """Everything this deployment can ever decide, band by band: public, and all that quotes can tell apart."""
    lowest = table.thresholds[0] - 1 if table.thresholds else 0
    return tuple(decide(policy, table, score) for score in (lowest, *table.thresholds))


def reasons_for_decline(
    policy: RatePolicy, specification: FeatureSpecification, weights: Sequence[int], features: Sequence[int]
) -> tuple[str, ...]:
    """The policy's reasons for the columns that raise this score most above the average applicant's, the weightiest first.

    Entries are centred, so the average applicant has zeros, and w_j·x_j is how far entry j moves the score away from it. At most 4; columns
    without a reason, and those that lower the score, are passed over. Only for features the borrower has shown (open mode).
    """
    entries = zip(weights[1:], features[1:], strict=True)
    raised = [(sum(w * x for w, x in islice(entries, len(feature.entry_names))), feature.name) for feature in specification.features]
    weighty = sorted((item for item in raised if item[0] > 0 and item[1] in policy.reason_of), reverse=True)
    return tuple(policy.reason_of[name] for _, name in weighty[:MOST_REASONS])
