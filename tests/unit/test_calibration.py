"""Calibration: the better fit is kept, its bands rise, and what is measured is what is published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.learning.calibration import MOST_BANDS, CalibrationRefused, CalibrationTable
from hessian.learning.calibration_fitting import fit_calibration
from hessian.learning.plain import Fields, ShapeRefused

ONE = 1 << 20  # scores in these tests are at 2^-20


def sample(seed: int, rows: int, probability_of: Callable[[float], float]) -> tuple[list[int], np.ndarray]:
    """Scores between 0 and 1 whose true probability of default is known."""
    random = np.random.default_rng(seed)
    scores = random.random(rows)
    labels = (random.random(rows) < np.vectorize(probability_of)(scores)).astype(np.int64)
    return [int(score * ONE) for score in scores], labels


def test_fit__a_logistic_truth__keeps_platt_and_finds_the_probabilities() -> None:
    scores, labels = sample(1, 4_000, lambda s: 1 / (1 + np.exp(-6 * (s - 0.7))))
    kept = fit_calibration(scores, labels)
    assert kept.method == "platt"
    for threshold, bps in zip(kept.table.thresholds, kept.table.probabilities[1:], strict=True):
        middle = threshold / ONE + 0.05  # ten bands of a uniform score are a tenth wide
        assert abs(bps / 10_000 - 1 / (1 + np.exp(-6 * (middle - 0.7)))) < 0.04


def test_fit__a_truth_with_a_step__keeps_isotonic() -> None:
    scores, labels = sample(2, 4_000, lambda s: 0.02 if s < 0.5 else 0.6)
    kept = fit_calibration(scores, labels)
    assert kept.method == "isotonic"
    figures = kept.figures
    assert figures.brier["isotonic"] < figures.brier["platt"] < figures.base_rate_brier
    assert kept.table.probabilities[kept.table.band_of(int(0.3 * ONE))] < 400
    assert 5_400 < kept.table.probabilities[kept.table.band_of(int(0.9 * ONE))] < 6_800


def test_fit__a_calibrated_sample__has_a_reliability_curve_along_the_diagonal() -> None:
    scores, labels = sample(3, 6_000, lambda s: 0.05 + 0.5 * s)
    figures = fit_calibration(scores, labels).figures
    assert sum(point.rows for point in figures.curve) == figures.rows == 6_000
    assert figures.positives == labels.sum()
    for point in figures.curve:
        error = 4 * np.sqrt(0.25 / point.rows) * 10_000  # four standard errors
        assert abs(point.observed_bps - point.predicted_bps) < error


def test_fit__brier__is_the_mean_square_of_out_of_fold_bands() -> None:
    """The base rate's, which depends on no fold, against its closed form p(1 − p)."""
    scores, labels = sample(4, 2_000, lambda s: s)
    figures = fit_calibration(scores, labels).figures
    rate = float(labels.mean())
    assert abs(figures.base_rate_brier / 1e9 - rate * (1 - rate)) < 1e-7
    assert 0 < min(figures.brier.values()) < figures.base_rate_brier


def test_fit__the_same_rows_twice__give_the_same_table() -> None:
    scores, labels = sample(5, 500, lambda s: s)
    assert fit_calibration(scores, labels) == fit_calibration(scores, labels)


@pytest.mark.parametrize("bands", [2, 5, MOST_BANDS])
def test_fit__a_number_of_bands__is_never_exceeded(bands: int) -> None:
    scores, labels = sample(6, 3_000, lambda s: s)
    assert 2 <= len(fit_calibration(scores, labels, bands=bands).table.probabilities) <= bands


def test_fit__many_equal_scores__are_never_split_between_bands() -> None:
    scores = [0] * 500 + [1] * 300 + [2] * 200
    labels = np.array(
        [i % 10 == 0 for i in range(500)] + [i % 3 == 0 for i in range(300)] + [i % 2 == 0 for i in range(200)], dtype=np.int64
    )
    assert fit_calibration(scores, labels).table.thresholds == (1, 2)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([1, 2, 3], [0, 0, 0]),
        ([1, 2, 3], [0, 1, 0]),
        ([], []),
        ([1, 2], [0, 1, 1]),
        ([5] * 10, [0, 1] * 5),
        (list(range(100)), [1] * 50 + [0] * 50),
    ],
    ids=["one label", "a single positive", "nothing", "unequal lengths", "one score", "scores that fall with default"],
)
def test_fit__rows_that_cannot_carry_it__are_refused(scores: list[int], labels: list[int]) -> None:
    with pytest.raises(CalibrationRefused):
        fit_calibration(scores, np.array(labels, dtype=np.int64))


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=MOST_BANDS - 1, unique=True), st.integers(-(2**41), 2**41))
def test_band_of__any_score__counts_the_thresholds_it_reaches(thresholds: list[int], score: int) -> None:
    table = CalibrationTable(tuple(sorted(thresholds)), tuple(range(1, len(thresholds) + 2)))
    assert table.band_of(score) == sum(threshold <= score for threshold in thresholds)
    assert CalibrationTable.from_plain(table.to_plain()) == table


@pytest.mark.parametrize(
    ("thresholds", "probabilities"),
    [
        ((), ()),
        ((1,), (100,)),
        ((2, 1), (100, 200, 300)),
        ((1, 1), (100, 200, 300)),
        ((1, 2), (100, 100, 300)),
        ((1, 2), (300, 200, 100)),
        ((1,), (0, 100)),
        ((1,), (100, 10_000)),
        (tuple(range(MOST_BANDS)), tuple(range(1, MOST_BANDS + 2))),
    ],
)
def test_table__not_rising_or_out_of_range__is_refused(thresholds: tuple[int, ...], probabilities: tuple[int, ...]) -> None:
    with pytest.raises(CalibrationRefused):
        CalibrationTable(thresholds, probabilities)


def test_from_plain__a_foreign_field__is_refused() -> None:
    plain = CalibrationTable((1,), (100, 200)).to_plain()
    with pytest.raises(ShapeRefused):
        CalibrationTable.from_plain(Fields({**plain, "more": 1}, "calibration"))
