"""The accountant: OpenDP's figures against the formula they come from, composition, the cap, and the cohort's figure."""

from __future__ import annotations

from fractions import Fraction
from math import log, log1p

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from small_model import requirement

from hessian.privacy.accounting import check_claim, epsilon_cohort, epsilon_of, judge_budget, rho_for
from hessian.privacy.discrete_gaussian import Coins, discrete_gaussian
from hessian.privacy.requirement import UNIT, PrivacyRefused, PrivacyRequirement

DELTA = UNIT // 10**6
COHORT = {"dimension": 42, "feature_bits": 16, "matrix_bits": 20, "curvature_quarters": 4, "local_steps": 1}


def formula(rho: float, delta: float) -> float:
    """The least ε of proposition 12 in Canonne, Kamath, Steinke, searched over the order α."""

    def at(order: float) -> float:
        return order * rho + (log(1 / delta) + (order - 1) * log1p(-1 / order) - log(order)) / (order - 1)

    found = minimize_scalar(lambda x: at(1 + np.exp(x)), bounds=(-12, 12), method="bounded", options={"xatol": 1e-12})
    return float(found.fun)


@pytest.mark.parametrize("rho", [0.0001, 0.02, 0.5, 7.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_epsilon_of__one_release__is_the_formula_and_never_below_it(rho: float, delta: float) -> None:
    found, expected = epsilon_of([int(rho * UNIT)], int(delta * UNIT)) / UNIT, formula(rho, delta)
    assert expected * (1 - 1e-7) <= found <= expected * (1 + 1e-5)


def test_epsilon_of__several_releases__is_that_of_their_sum_in_any_order() -> None:
    parts = [UNIT // 100, UNIT // 50, UNIT // 70]
    together = epsilon_of(parts, DELTA)
    assert together == epsilon_of(parts[::-1], DELTA)
    assert together == pytest.approx(epsilon_of([sum(parts)], DELTA), rel=1e-6)
    assert epsilon_of(parts[:2], DELTA) < together < sum(epsilon_of([part], DELTA) for part in parts)
    assert epsilon_of([], DELTA) == 0


@pytest.mark.parametrize("epsilon", [UNIT // 10, UNIT, 4 * UNIT])
def test_rho_for__any_epsilon__is_the_largest_that_keeps_it(epsilon: int) -> None:
    rho = rho_for(epsilon, DELTA)
    check_claim(PrivacyRequirement(epsilon, DELTA, rho, 2 << 16))
    assert epsilon_of([rho + rho // 10**6], DELTA) > epsilon


def test_check_claim__noise_weaker_than_claimed__is_refused_with_the_figure() -> None:
    honest = requirement()
    with pytest.raises(PrivacyRefused, match=r"claims epsilon 1 at delta 0\.000001"):
        check_claim(PrivacyRequirement(honest.epsilon, honest.delta, honest.rho * 101 // 100, honest.clip_norm))


def test_judge_budget__up_to_the_cap__refuses_the_release_that_would_pass_it() -> None:
    rho = rho_for(UNIT, DELTA)
    spent: list[int] = []
    while not (objections := judge_budget(spent, rho, limit=3 * UNIT, delta=DELTA)):
        spent.append(rho)
    assert epsilon_of(spent, DELTA) <= 3 * UNIT < epsilon_of([*spent, rho], DELTA)
    assert len(spent) == 7  # plain addition would have allowed three
    assert "this node's cap is 3" in objections[0]


def test_epsilon_cohort__more_honest_members__falls_like_the_shared_variance() -> None:
    wanted, local = requirement(), epsilon_of([requirement().rho], DELTA)
    figures = [epsilon_cohort(wanted, honest=h, rows=[1600] * 5, **COHORT) for h in (2, 3, 5)]
    assert None not in figures
    assert local > figures[0] > figures[1] > figures[2]  # type: ignore[operator]
    assert figures[1] == pytest.approx(epsilon_of([wanted.rho // 3], DELTA), rel=1e-3)


@pytest.mark.parametrize(
    ("honest", "rows", "change"),
    [
        (1, [1600] * 5, {}),
        (3, [1600, 1600, 10, 10, 10], {}),
        (5, [10] * 5, {}),
        (3, [1600] * 5, {"local_steps": 2}),
        (3, [10**9] * 5, {}),
        (3, [1600] * 5, {"matrix_bits": 4}),
    ],
    ids=["alone", "two of three too small", "all too small", "not linear", "rounded coarser than the noise", "coarse matrix"],
)
def test_epsilon_cohort__what_the_sum_does_not_hide__is_not_claimed(honest: int, rows: list[int], change: dict[str, int]) -> None:
    assert epsilon_cohort(requirement(), honest=honest, rows=rows, **{**COHORT, **change}) is None


def test_epsilon_cohort__one_small_member_among_the_honest__counts_as_a_colluder() -> None:
    few = epsilon_cohort(requirement(), honest=3, rows=[1600, 1600, 1600, 1600, 10], **COHORT)
    two = epsilon_cohort(requirement(), honest=2, rows=[1600] * 5, **COHORT)
    assert few == pytest.approx(two, rel=1e-9)


def test_discrete_gaussian__its_renyi_divergence_at_any_shift__is_within_rho() -> None:
    """The mechanism itself, in exact sums over a small σ: D_α(x ‖ x + Δ) ≤ α·Δ²/(2σ²)."""
    variance, places = 6.0, np.arange(-60, 61)  # what lies outside weighs less than 10^-100
    for shift in (1, 2, 5):
        p, q = -(places**2) / (2 * variance), -((places - shift) ** 2) / (2 * variance)
        p, q = p - logsumexp(p), q - logsumexp(q)
        for order in (1.5, 2.0, 8.0):
            divergence = logsumexp(order * p + (1 - order) * q) / (order - 1)
            assert divergence <= order * shift**2 / (2 * variance) * (1 + 1e-12)
    assert isinstance(discrete_gaussian(Fraction(6), Coins()), int)
