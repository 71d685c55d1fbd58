"""How much a row gives away: from ρ to (ε, δ) and back, over one release or several, and a cohort's own figure (PROTOCOL §5).

The arithmetic is OpenDP's, a maintained library that rounds every step to the safe side: composition of zCDP, and its conversion to (ε, δ)
after Canonne, Kamath, Steinke (NeurIPS 2020, proposition 12). Only nodes that judge a budget load it; who draws noise needs ρ alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil, exp, floor, log, nextafter, pi, sqrt

from opendp.combinators import make_composition, make_zCDP_to_approxDP
from opendp.domains import atom_domain, vector_domain
from opendp.measurements import make_gaussian
from opendp.metrics import l2_distance
from opendp.mod import Measurement, enable_features

from hessian.privacy.requirement import CLAMP_MARGIN, LARGEST_LOSS, UNIT, PrivacyRefused, PrivacyRequirement, in_words

enable_features("contrib")  # OpenDP's name for every constructor that is not part of its frozen core

_SAFE = 1 + 1e-9  # covers what the floating point of this module itself may lose
_LEAST_ROUNDING_RATIO = 8


def epsilon_of(rhos: Sequence[int], delta: int) -> int:
    """ε of releases of these ρ composed, at this δ; all at 10^-15, rounded up. 0 for none."""
    if not rhos:
        return 0
    composed = make_composition([_gaussian(rho) for rho in sorted(rhos)])
    loss = make_zCDP_to_approxDP(composed).map(1.0).epsilon(delta / UNIT)
    return ceil(float(loss) * UNIT * _SAFE)


@cache
def rho_for(epsilon: int, delta: int) -> int:
    """The largest ρ that is worth no more than (ε, δ); all at 10^-15. Raises PrivacyRefused where there is none."""
    low, high = 0, LARGEST_LOSS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if epsilon_of([middle], delta) <= epsilon else (low, middle - 1)
    if low == 0:
        raise PrivacyRefused("no noise is strong enough for this epsilon and delta")
    return low


def check_claim(requirement: PrivacyRequirement) -> None:
    """The noise is as strong as the manifest says. Raises PrivacyRefused."""
    actual = epsilon_of([requirement.rho], requirement.delta)
    if actual > requirement.epsilon:
        raise PrivacyRefused(
            f"the manifest claims epsilon {in_words(requirement.epsilon)} at delta {in_words(requirement.delta)}, "
            f"but its noise gives {in_words(actual)}"
        )


def judge_budget(spent: Sequence[int], candidate: int, *, limit: int, delta: int) -> list[str]:
    """Objections to one more release of rows that have `spent` these ρ: the sum of all must stay under the owner's cap `limit` on ε."""
    total = epsilon_of([*spent, candidate], delta)
    if total <= limit:
        return []
    return [
        f"after {len(spent)} releases of these rows this one would make it epsilon {total / UNIT:.3g} at delta {in_words(delta)}, "
        f"and this node's cap is {in_words(limit)}"
    ]


def epsilon_cohort(
    requirement: PrivacyRequirement,
    *,
    honest: int,
    rows: Sequence[int],
    dimension: int,
    feature_bits: int,
    matrix_bits: int,
    curvature_quarters: int,
    local_steps: int,
) -> int | None:
    """ε of one release as the sum of one cohort shows it, if at least `honest` members (this one among them) tell nobody their noise.

    `rows` of every member as declared. The sum of h discrete Gaussians hides like one of h times the variance (Kairouz, Liu, Steinke,
    ICML 2021, theorem 1: the difference is below 10^-250 here). Two things happen before the sum: the clamp, whose chance to act is taken
    out of δ, so a member with few rows counts as a colluder; and the rounding of A to 2^-fA, which must be finer than an eighth of the
    noise (the residue it hides is then uniform). None where that is not so, for several local steps, which are no linear map of (G, h),
    and where the figure would not be smaller than ε_local.
    """
    variances = requirement.variances(feature_bits)
    deviation = sqrt(variances.off_diagonal)
    unit = sum(rows) * 2.0 ** (2 * feature_bits - matrix_bits) * 4 / curvature_quarters
    if local_steps != 1 or deviation < _LEAST_ROUNDING_RATIO * unit:
        return None
    noised_entries = dimension * (dimension + 3) // 2
    # P(|Z| > t) ≤ 2·exp(−t²/(2σ²)), with t what the clamp leaves above the largest honest entry, over all entries and members
    lost = requirement.delta / UNIT / 1_000
    reach = sqrt(2 * float(variances.diagonal) * log(2 * noised_entries * len(rows) / lost))
    least_rows = reach / ((CLAMP_MARGIN - 1) * float(requirement.clip_norm) ** 2)
    reach_moment = sqrt(2 * float(variances.moment) * log(2 * noised_entries * len(rows) / lost))
    least_rows = max(least_rows, reach_moment / ((CLAMP_MARGIN - 1) * float(requirement.clip_norm)))
    hidden = honest - sum(count < least_rows for count in rows)
    if hidden < 2:
        return None
    smoothing = 10 * hidden * exp(-(pi**2) * _LEAST_ROUNDING_RATIO**2)
    shared = (sqrt(2 * requirement.rho / UNIT / hidden) + smoothing * sqrt(noised_entries)) ** 2 / 2
    return epsilon_of([ceil(shared * UNIT * _SAFE)], floor(requirement.delta * (1 - 2 / 1_000)))


def _gaussian(rho: int) -> Measurement:
    """OpenDP's description of a mechanism that is at least this ρ-zCDP at distance 1."""
    space = vector_domain(atom_domain(T=int)), l2_distance(T=float)
    wanted = rho / UNIT
    scale = sqrt(1 / (2 * wanted))
    while (made := make_gaussian(*space, scale=scale)).map(1.0) < wanted:
        scale = nextafter(scale, 0.0)
    return made
