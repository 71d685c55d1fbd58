"""The validation error, exact to the billionth, and the AUC against scikit-learn."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hessian.learning.metrics import MetricRefused, auc, auc_lead_standard_error, auc_standard_error, scores, validation_error

BITS = 12  # 8 of the weights, 4 of the features
small = st.integers(-(2**12), 2**12)


@given(st.lists(st.tuples(small, small, st.integers(0, 1)), min_size=1, max_size=8), small, small)
@settings(deadline=None)
def test_validation_error__any_rows__is_the_ceiling_of_the_exact_mean(rows: list[tuple[int, int, int]], v: int, w: int) -> None:
    x, y = np.array([row[:2] for row in rows], dtype=np.int64), np.array([row[2] for row in rows], dtype=np.int64)
    squares = [(min(Fraction(1), max(Fraction(0), Fraction(a * v + b * w, 1 << BITS))) - label) ** 2 for a, b, label in rows]

    assert validation_error([v, w], x, y, score_bits=BITS) == math.ceil(10**9 * sum(squares, Fraction(0)) / len(rows))


def test_validation_error__a_hair_above_zero__is_rounded_up() -> None:
    assert validation_error([1], np.array([[1]]), np.array([0]), score_bits=40) == 1
    assert validation_error([0], np.array([[1]]), np.array([0]), score_bits=40) == 0
    assert validation_error([0], np.array([[1]]), np.array([1]), score_bits=40) == 10**9


def test_validation_error__scores_outside_the_unit_interval__are_clamped() -> None:
    x, y = np.array([[1], [-1]]), np.array([1, 0])

    assert validation_error([1 << 20], x, y, score_bits=4) == 0


@pytest.mark.parametrize("rows", [0, 2])
def test_validation_error__no_rows_or_labels_missing__is_refused(rows: int) -> None:
    with pytest.raises(MetricRefused):
        validation_error([1], np.ones((rows, 1), dtype=np.int64), np.zeros(rows // 2, dtype=np.int64), score_bits=4)


@given(
    st.lists(st.lists(st.integers(-(2**26), 2**26), min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(-(2**50), 2**50), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_scores__products_beyond_64_bits__stay_exact(rows: list[list[int]], weights: list[int]) -> None:
    expected = [sum(a * b for a, b in zip(row, weights, strict=True)) for row in rows]

    assert scores(weights, np.array(rows, dtype=np.int64)) == expected


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=30).filter(
        lambda rows: 0 < sum(y for _, y in rows) < len(rows)
    )
)
@settings(deadline=None)
def test_auc__any_scores_with_ties__equals_scikit_learn(rows: list[tuple[int, int]]) -> None:
    values, labels = [float(value) for value, _ in rows], np.array([label for _, label in rows])

    assert auc(values, labels) == pytest.approx(roc_auc_score(labels, values), abs=1e-12)


def test_auc_standard_error__published_example__is_met() -> None:
    """Hanley and McNeil 1982: 51 abnormal and 58 normal images, area 0.893, standard error 0.032 by this formula."""
    labels = np.array([1] * 51 + [0] * 58)

    assert auc_standard_error(0.893, labels) == pytest.approx(0.032, abs=0.0006)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
@settings(deadline=None)
def test_auc_lead_standard_error__any_scores_with_ties__equals_the_definition_over_all_pairs(
    seed: int, positives: int, negatives: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation([1] * positives + [0] * negatives)
    ours, theirs = rng.integers(-3, 4, (2, positives + negatives)).astype(np.float64)
    difference = wins(ours, labels) - wins(theirs, labels)  # one row a positive, one column a negative
    variance = difference.mean(axis=1).var(ddof=1) / positives + difference.mean(axis=0).var(ddof=1) / negatives

    assert difference.mean() == pytest.approx(auc(ours, labels) - auc(theirs, labels), abs=1e-12)
    assert auc_lead_standard_error(ours, theirs, labels) == pytest.approx(float(np.sqrt(variance)), abs=1e-12)


def wins(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Any:
    high, low = values[labels == 1][:, None], values[labels == 0][None, :]
    return (high > low) + (high == low) / 2


def test_auc_lead_standard_error__one_row_of_a_label__is_refused() -> None:
    with pytest.raises(MetricRefused):
        auc_lead_standard_error([0.1, 0.2, 0.3], [0.3, 0.1, 0.2], np.array([1, 0, 0]))


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_auc__one_label_only__is_refused(labels: list[int]) -> None:
    with pytest.raises(MetricRefused):
        auc([0.1, 0.2], np.array(labels))
