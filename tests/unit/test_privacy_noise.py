"""Clipping, sensitivity and noise: what a row can change is at most Δ, and what is added to it is what Δ asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from scipy import stats
from small_model import Rows, manifest, requirement, specification

from hessian.artifacts.codec import ArtifactRefused, decode, encode
from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import Timestamp
from hessian.learning.features import IntMatrix
from hessian.learning.local_steps import member_map
from hessian.learning.objective import SQUARED, Objective
from hessian.learning.plain import Plain
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics, accumulate
from hessian.privacy.clipping import clip_rows, norm_quantile
from hessian.privacy.discrete_gaussian import Coins
from hessian.privacy.noise import check_noised, noised
from hessian.privacy.requirement import UNIT, PrivacyRefused, PrivacyRequirement, in_words, squared_sensitivity
from hessian.testing import valid_terms
from trainer.statistics import released_statistics, statistics_of

BITS = 16
ONE = 1 << BITS
NEVER = 1e-12

rows_of_entries = st.lists(st.lists(st.integers(-(2**26), 2**26), min_size=4, max_size=4), min_size=1, max_size=8)


def with_intercept(entries: list[list[int]]) -> IntMatrix:
    return np.column_stack([np.full(len(entries), ONE, dtype=np.int64), np.array(entries, dtype=np.int64)])


def distance(one: SufficientStatistics, other: SufficientStatistics) -> Fraction:
    """Squared, over G and h in real units, G in the Frobenius norm."""
    gram = sum((a - b) ** 2 for row, line in zip(one.gram, other.gram, strict=True) for a, b in zip(row, line, strict=True))
    moment = sum((a - b) ** 2 for a, b in zip(one.moment, other.moment, strict=True))
    return Fraction(gram, 1 << 4 * BITS) + Fraction(moment, 1 << 2 * BITS + 2)


@given(rows_of_entries, st.integers(ONE + 1, 2**28))
def test_clip_rows__any_rows__are_within_the_norm_and_point_the_same_way(entries: list[list[int]], norm: int) -> None:
    rows = with_intercept(entries)
    clipped = clip_rows(rows, norm)

    for before, after in zip(rows.tolist(), clipped.tolist(), strict=True):
        length = sum(entry**2 for entry in before)
        assert after[0] == ONE
        assert sum(entry**2 for entry in after) <= norm**2
        if length <= norm**2:
            assert after == before
        else:
            factor = sqrt((norm**2 - ONE**2) / (length - ONE**2))
            assert all(abs(b) <= abs(a) and abs(b - a * factor) < 1 + abs(a) * 2.0**-30 for a, b in zip(before[1:], after[1:], strict=True))


def test_clip_rows__rows_that_are_short_enough__are_not_copied() -> None:
    rows = with_intercept([[1, 2, 3, 4]])
    assert clip_rows(rows, 2 * ONE) is rows


def test_clip_rows__an_empty_block__stays_empty() -> None:
    assert clip_rows(np.zeros((0, 5), dtype=np.int64), 2 * ONE).shape == (0, 5)


def test_norm_quantile__of_rows__is_kept_by_that_share() -> None:
    rows = with_intercept([[k * ONE, 0, 0, 0] for k in range(1, 101)])
    norm = norm_quantile(rows, 0.9)
    assert (np.sqrt((rows.astype(float) ** 2).sum(axis=1)) <= norm).sum() == 90


@settings(max_examples=300, deadline=None)
@given(rows_of_entries, rows_of_entries, st.booleans(), st.booleans(), st.sampled_from([ONE + 1, 3 * ONE // 2, 4 * ONE]))
def test_sensitivity__neighbours_that_a_search_drives_apart__never_exceeds_delta(
    first: list[list[int]], second: list[list[int]], label: bool, other: bool, norm: int
) -> None:
    one, two = (clip_rows(with_intercept(entries[:1]), norm) for entries in (first, second))
    measured = distance(accumulate([(one, np.array([label]))], 5), accumulate([(two, np.array([other]))], 5))
    bound = squared_sensitivity(Fraction(norm, ONE))
    target(float(measured / bound))

    assert measured <= bound


def neighbours(clip: float, label: float, count: int = 20_000) -> Iterable[float]:
    """Squared distances between pairs on the sphere of radius C, found by trying every angle: what the formula claims to bound."""
    for cosine in np.linspace(-1, 1, count):
        inner = clip**2 * cosine
        yield 2 * clip**4 - 2 * inner**2 + 2 * clip**2 * label**2 + 2 * inner * label**2


@pytest.mark.parametrize(("clip", "label"), [(1.0, 0.5), (3.0, 0.5), (1.0, 1.4), (1.0, 1.5), (1.0, 4.0), (2.0, 2.8)])
def test_squared_sensitivity__both_regimes__is_the_largest_distance_there_is(clip: float, label: float) -> None:
    bound = float(squared_sensitivity(Fraction(clip), Fraction(label)))
    largest = max(neighbours(clip, label))
    assert largest <= bound * (1 + 1e-12)
    assert largest >= bound * (1 - 1e-6)


def test_sensitivity__the_worst_pair_of_rows__reaches_delta() -> None:
    """x·x′ = T²/2 with opposite labels: Δ is not merely a bound, so the noise is not larger than it has to be."""
    norm = 2 * ONE
    length = sqrt(norm**2 - ONE**2)
    cosine = (ONE**2 / 8 - ONE**2) / length**2
    one = with_intercept([[int(length), 0, 0, 0]])
    two = with_intercept([[int(length * cosine), int(length * sqrt(1 - cosine**2)), 0, 0]])
    measured = distance(accumulate([(one, np.array([0]))], 5), accumulate([(two, np.array([1]))], 5))
    assert 0.9999 < measured / squared_sensitivity(Fraction(2)) <= 1


def test_variances__of_a_requirement__spend_exactly_rho_on_the_worst_pair() -> None:
    wanted = requirement(clip_norm=3)
    variances = wanted.variances(BITS)
    # the whole distance on the diagonal, and the whole of it off the diagonal, where the norm counts every difference twice
    squared = squared_sensitivity(Fraction(3)) * (1 << 4 * BITS)
    assert squared / (2 * variances.diagonal) == Fraction(wanted.rho, UNIT)
    assert squared / 2 / (2 * variances.off_diagonal) == Fraction(wanted.rho, UNIT)
    assert squared_sensitivity(Fraction(3)) * (1 << 2 * BITS + 2) / (2 * variances.moment) == Fraction(wanted.rho, UNIT)


EXACT = statistics_of([Rows(3, 500).csv()], specification(), clip_norm=2 * ONE)


def test_noised__many_draws__are_symmetric_unbiased_independent_and_as_wide_as_they_must_be() -> None:
    wanted, coins = requirement(), Coins()
    variances = wanted.variances(BITS)
    draws = [noised(EXACT, wanted, BITS, coins) for _ in range(400)]
    assert all(draw.gram[i][j] == draw.gram[j][i] for draw in draws for i in range(5) for j in range(5))
    assert all((draw.rows, draw.gram[0][0]) == (EXACT.rows, EXACT.gram[0][0]) for draw in draws)

    places = [(i, j) for i in range(1, 5) for j in range(i + 1)]
    columns = [
        [(draw.gram[i][j] - EXACT.gram[i][j]) / sqrt(variances.diagonal if i == j else variances.off_diagonal) for draw in draws]
        for i, j in places
    ]
    columns += [[(draw.moment[i] - EXACT.moment[i]) / sqrt(variances.moment) for draw in draws] for i in range(5)]
    sample = np.array(columns)
    tests = len(columns) * (len(columns) + 1)
    squares, sums = (sample**2).sum(axis=1), sample.sum(axis=1)
    assert all(stats.chi2.sf(square, 400) * tests > NEVER and stats.chi2.cdf(square, 400) * tests > NEVER for square in squares)
    assert stats.norm.sf(np.abs(sums).max() / sqrt(400)) * tests > NEVER
    correlation = np.corrcoef(sample) - np.eye(len(columns))
    # |r| of independent samples: r·√(n−2)/√(1−r²) follows Student's t
    worst = np.abs(correlation).max()
    assert stats.t.sf(worst * sqrt(398) / sqrt(1 - worst**2), 398) * tests > NEVER


def test_noised__twice__draws_other_noise() -> None:
    assert noised(EXACT, requirement(), BITS) != noised(EXACT, requirement(), BITS)


def test_noised__few_rows_under_strong_noise__is_clamped_and_still_accepted() -> None:
    wanted = PrivacyRequirement(UNIT, UNIT // 10**6, 1_000, 2 * ONE)  # far more noise than the claim needs
    one = statistics_of([Rows(3, 2).csv()], specification(), clip_norm=2 * ONE)
    drawn = noised(one, wanted, BITS)
    check_noised(drawn, wanted, specification())
    entries = {abs(drawn.gram[i][j]) for i in range(1, 5) for j in range(i + 1)}
    assert entries == {2 * 2 * (2 * ONE) ** 2}


@pytest.mark.parametrize("step", [1 << 28, 1 << 33])
@pytest.mark.parametrize("objective", [SQUARED, Objective(loss="logistic-taylor1", ridge=1 << 30), Objective(local_steps=7)])
def test_map_bounds__statistics_at_the_clamp__stay_within_them(objective: Objective, step: int) -> None:
    wanted, spec = requirement(), specification()
    bounds, d, n = wanted.bounds(spec, objective, step), spec.dimension, 10
    gram_limit, moment_limit = 2 * n * wanted.clip_norm**2, 2 * n * wanted.clip_norm
    gram = [[gram_limit] * d for _ in range(d)]
    gram[0][0] = n * ONE**2
    statistics = SufficientStatistics(n, tuple(map(tuple, gram)), (moment_limit,) * d)
    check_noised(statistics, wanted, spec)
    own = member_map(statistics, n, BITS, bounds, objective, step)
    extreme = [bounds.weight_limit] * d
    assert max(map(abs, own.at(extreme))) <= bounds.slot_bound(1, d)


@pytest.mark.parametrize("change", ["shape", "rows", "asymmetric", "large", "large moment"])
def test_check_noised__statistics_that_no_clamp_left__are_refused(change: str) -> None:
    gram, moment, rows = [list(row) for row in EXACT.gram], list(EXACT.moment), EXACT.rows
    if change == "shape":
        moment.append(0)
    if change == "rows":
        rows += 1
    if change == "asymmetric":
        gram[1][2] += 1
    if change == "large":
        gram[1][1] = 2 * rows * (2 * ONE) ** 2 + 1
    if change == "large moment":
        moment[1] = -2 * rows * 2 * ONE - 1
    with pytest.raises(StatisticsRefused):
        check_noised(SufficientStatistics(rows, tuple(map(tuple, gram)), tuple(moment)), requirement(), specification())


def private_model(**changes: int) -> ModelManifest:
    return manifest(valid_terms(Timestamp(0), cohort_size=3), requirement(**changes))


def test_released_statistics__of_a_model_that_requires_privacy__are_clipped_and_noised() -> None:
    data, model = [Rows(3, 500).csv()], private_model()
    drawn = released_statistics(data, model)
    assert drawn.gram != EXACT.gram
    model.check_statistics(drawn)
    assert EXACT.gram != statistics_of(data, specification()).gram  # the norm of 2 clips some of these rows


def test_manifest__with_a_requirement__is_the_same_after_a_round_trip() -> None:
    model = private_model()
    assert ModelManifest.from_bytes(model.to_bytes(), minimum_bits=512) == model


@pytest.mark.parametrize(
    "privacy", [{"kind": "required"}, {"kind": "none", "epsilon": 1}, {"kind": "differential-privacy", "epsilon": 1}, {}]
)
def test_manifest__a_privacy_requirement_nobody_knows__is_refused(privacy: dict[str, Plain]) -> None:
    plain = decode(private_model().to_bytes())
    assert isinstance(plain, dict)
    with pytest.raises(ArtifactRefused):
        ModelManifest.from_bytes(encode({**plain, "privacy": privacy}), minimum_bits=512)


def test_manifest__bounds_too_narrow_for_noise__is_refused() -> None:
    model = private_model()
    with pytest.raises(ArtifactRefused, match="noised"):
        replace(model, bounds=manifest(valid_terms(Timestamp(0), cohort_size=3)).bounds)


@pytest.mark.parametrize(
    "change",
    [{"epsilon": 0}, {"rho": 0}, {"delta": 0}, {"delta": UNIT // 100}, {"clip_norm": 1}, {"clip_norm": 2**40}, {"rho": 10**4 * UNIT}],
)
def test_requirement__out_of_range__is_refused(change: dict[str, int]) -> None:
    with pytest.raises(PrivacyRefused):
        PrivacyRequirement(**{"epsilon": UNIT, "delta": 1, "rho": 1, "clip_norm": 2 * ONE, **change})


def test_requirement__a_norm_that_the_intercept_fills__is_refused() -> None:
    with pytest.raises(PrivacyRefused):
        PrivacyRequirement(UNIT, 1, 1, ONE).bounds(specification(), SQUARED, 1)


def test_mechanism__another_norm_or_strength_or_specification__is_another() -> None:
    names = {
        requirement().mechanism(specification()),
        requirement(clip_norm=3).mechanism(specification()),
        requirement(epsilon=2).mechanism(specification()),
        requirement().mechanism(type(specification())(specification().features[:2], specification().label)),
    }
    assert len(names) == 4


@pytest.mark.parametrize(("value", "text"), [(UNIT, "1"), (UNIT // 10**6, "0.000001"), (1, "0.000000000000001"), (100 * UNIT, "100")])
def test_in_words__integers_at_the_unit__are_plain_decimals(value: int, text: str) -> None:
    assert in_words(value) == text
