"""How good a model is: the validation error the contract pays for, in exact integers, and the AUC a report shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Refused
from hessian.identifiers import ErrorUnits
from hessian.learning.features import IntMatrix
from hessian.learning.objective import SQUARED, Objective
from hessian.learning.plain import BILLION

METRICS = ("squared-error",)
_INT64_END = 2**63


class MetricRefused(Refused):
    """These rows cannot measure a model."""


def scores(weights: Sequence[int], features: IntMatrix) -> list[int]:
    """w·φ(x) of every row, exactly: weights at 2^-fw and features at 2^-f give integers at 2^-(f+fw)."""
    largest = int(np.abs(features).max(initial=0)) * max(map(abs, weights), default=0) * len(weights)
    wide = np.int64 if largest < _INT64_END else object  # Python integers where 64 bits would not do
    return list(map(int, features.astype(wide) @ np.array(weights, dtype=wide)))


def validation_error(
    weights: Sequence[int], features: IntMatrix, labels: IntMatrix, *, score_bits: int, objective: Objective = SQUARED
) -> ErrorUnits:
    """⌈10⁹ · mean((clamp(ŷ, 0, 1) − y)²)⌉ in integers (PROTOCOL §6), ŷ the objective's prediction; `score_bits`: weight plus feature bits.

    Raises MetricRefused.
    """
    if len(labels) == 0 or len(labels) != len(features):
        raise MetricRefused("the validation error needs rows, each with a label")
    one = 1 << score_bits
    predictions = (objective.prediction_quarters(score, one) for score in scores(weights, features))
    total = sum(
        (max(0, min(4 * one, quarters)) - label * 4 * one) ** 2 for quarters, label in zip(predictions, labels.tolist(), strict=True)
    )
    return ErrorUnits(-(-BILLION * total // (len(labels) * (4 * one) ** 2)))


def auc(values: Sequence[float] | NDArray[np.float64], labels: IntMatrix) -> float:
    """The chance that a random positive row scores above a random negative one, ties counted half. Raises MetricRefused."""
    positives, negatives = _classes(labels)
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_standard_error(area: float, labels: IntMatrix) -> float:
    """The standard error of an AUC measured on rows with these labels (Hanley and McNeil, Radiology 143, 1982). Raises MetricRefused."""
    positives, negatives = _classes(labels)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return float(np.sqrt(max(0.0, variance) / (positives * negatives)))


def auc_lead_standard_error(
    values: Sequence[float] | NDArray[np.float64], others: Sequence[float] | NDArray[np.float64], labels: IntMatrix
) -> float:
    """The standard error of auc(values) − auc(others), both measured on these same rows. Raises MetricRefused.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988: models that rank the same rows err together, so a difference is known far better
    than either area.
    """
    positives, negatives = _classes(labels)
    if min(positives, negatives) < 2:
        raise MetricRefused("a standard error needs two rows of each label")
    leads = [ours - theirs for ours, theirs in zip(_placements(values, labels), _placements(others, labels), strict=True)]
    return float(np.sqrt(leads[0].var(ddof=1) / positives + leads[1].var(ddof=1) / negatives))


def _placements(values: Sequence[float] | NDArray[np.float64], labels: IntMatrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For every positive the share of negatives below it, for every negative the share of positives above it; ties count half."""
    scored = np.asarray(values, dtype=np.float64)
    high, low = scored[labels == 1], scored[labels != 1]
    return _share_below(high, low), 1 - _share_below(low, high)


def _share_below(each: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(among)
    return (np.searchsorted(ordered, each, "left") + np.searchsorted(ordered, each, "right")) / (2.0 * len(among))


def _classes(labels: IntMatrix) -> tuple[int, int]:
    positives = int((labels == 1).sum())
    if positives in (0, len(labels)):
        raise MetricRefused("an AUC needs rows of both labels")
    return positives, len(labels) - positives
