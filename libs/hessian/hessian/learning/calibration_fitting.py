"""From validation rows to a calibration table, through scikit-learn: only the lender's node has it, and only it imports this.

Two fits are tried. Platt's (Advances in Large Margin Classifiers, 1999) is a logistic curve over the score, isotonic regression (Zadrozny
and Elkan, KDD 2002) any rising step function. Either becomes bands of about equally many rows; the one whose *bands* have the lower
cross-validated Brier score is kept: what is measured is what is published. Figures are integers: the Brier score in billionths,
probabilities in basis points, so that they travel without rounding twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from hessian.identifiers import ErrorUnits
from hessian.learning.calibration import DEFAULT_BANDS, MOST_BANDS, WHOLE_BPS, CalibrationRefused, CalibrationTable
from hessian.learning.features import IntMatrix
from hessian.learning.plain import BILLION

FOLDS = 5
_SEED = 20_261_122  # any fixed number: the same rows give the same folds, hence the same table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityPoint:
    """Rows that were given about the same probability, out of fold: their mean probability and the share that went bad, in basis points."""

    rows: int
    predicted_bps: int
    observed_bps: int


@dataclass(frozen=True)
class CalibrationFigures:
    """Cross-validated Brier scores in billionths, by method, and of the base rate alone; the reliability curve of the kept method."""

    rows: int
    positives: int
    brier: dict[str, ErrorUnits]
    base_rate_brier: ErrorUnits
    curve: tuple[ReliabilityPoint, ...]


@dataclass(frozen=True)
class Calibration:
    """The kept method's table, fitted on all rows, and how well it does on rows it has not seen."""

    method: str
    table: CalibrationTable
    figures: CalibrationFigures


def fit_calibration(scores: Sequence[int], labels: IntMatrix, *, bands: int = DEFAULT_BANDS) -> Calibration:
    """Calibrate scores at the scoring scale against labels in {0, 1}; at most `bands` bands.

    Raises CalibrationRefused when there are fewer than two rows of either label, or no score tells anything about the label.
    """
    values, y = np.array([float(score) for score in scores]), np.asarray(labels, dtype=np.int64)
    positives = int(y.sum())
    folds = min(FOLDS, positives, len(y) - positives)
    if len(values) != len(y) or folds < 2:
        raise CalibrationRefused("a calibration needs at least two validation rows of either label")
    if not 2 <= bands <= MOST_BANDS:
        raise CalibrationRefused(f"a calibration has between 2 and {MOST_BANDS} bands")
    out_of_fold = {method: _out_of_fold(fit, values, y, folds, bands) for method, fit in _METHODS.items()}
    brier = {method: _brier(predicted, y) for method, predicted in out_of_fold.items()}
    method = min(brier, key=lambda name: brier[name])
    table = _table(_METHODS[method], values, y, bands)
    if len(table.probabilities) < 2:
        raise CalibrationRefused("the scores do not tell good validation rows from bad ones: there is nothing to calibrate")
    base_rate = np.full(len(y), _bps(positives / len(y)))
    figures = CalibrationFigures(len(y), positives, brier, _brier(base_rate, y), _reliability(out_of_fold[method], y))
    return Calibration(method, table, figures)


def _platt(scores: Floats, y: IntMatrix) -> Callable[[Floats], Floats]:
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    curve = LogisticRegression().fit(((scores - middle) / spread)[:, np.newaxis], y)

    def probability(wanted: Floats) -> Floats:
        predicted: Floats = curve.predict_proba(((wanted - middle) / spread)[:, np.newaxis])[:, 1]
        return predicted

    return probability


def _isotonic(scores: Floats, y: IntMatrix) -> Callable[[Floats], Floats]:
    steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, y)

    def probability(wanted: Floats) -> Floats:
        predicted: Floats = steps.predict(wanted)
        return predicted

    return probability


_METHODS = {"platt": _platt, "isotonic": _isotonic}


def _table(fit: Callable[[Floats, IntMatrix], Callable[[Floats], Floats]], scores: Floats, y: IntMatrix, bands: int) -> CalibrationTable:
    """Bands of equally many rows, as far as equal scores allow; neighbours whose probability does not rise are one band."""
    ordered = np.sort(scores)
    probability = fit(scores, y)(ordered)
    cuts = sorted({int(np.searchsorted(ordered, ordered[len(ordered) * band // bands])) for band in range(bands)})
    thresholds, probabilities = list[int](), list[int]()
    for first, end in pairwise([*cuts, len(ordered)]):
        bps = _bps(float(probability[first:end].mean()))
        if probabilities and bps <= probabilities[-1]:
            continue
        if probabilities:
            thresholds.append(int(ordered[first]))
        probabilities.append(bps)
    return CalibrationTable(tuple(thresholds), tuple(probabilities))


def _out_of_fold(
    fit: Callable[[Floats, IntMatrix], Callable[[Floats], Floats]], scores: Floats, y: IntMatrix, folds: int, bands: int
) -> NDArray[np.int64]:
    """Each row's probability in basis points by a table that was fitted without it."""
    predicted = np.zeros(len(y), dtype=np.int64)
    for seen, unseen in StratifiedKFold(folds, shuffle=True, random_state=_SEED).split(scores, y):
        table = _table(fit, scores[seen], y[seen], bands)
        predicted[unseen] = [table.probabilities[table.band_of(int(score))] for score in scores[unseen]]
    return predicted


def _brier(predicted_bps: NDArray[np.int64], y: IntMatrix) -> ErrorUnits:
    total = int(((predicted_bps - WHOLE_BPS * y) ** 2).sum())
    return ErrorUnits(-(-BILLION * total // (len(y) * WHOLE_BPS**2)))


def _reliability(predicted_bps: NDArray[np.int64], y: IntMatrix) -> tuple[ReliabilityPoint, ...]:
    """Tenths of the rows by predicted probability, those with equal ones together."""
    ordered = np.sort(predicted_bps)
    edges = sorted({int(ordered[len(ordered) * part // 10]) for part in range(10)})
    part_of = np.searchsorted(edges, predicted_bps, side="right")
    return tuple(
        ReliabilityPoint(int(members.sum()), round(float(predicted_bps[members].mean())), _bps(float(y[members].mean()), least=0))
        for members in (part_of == part for part in np.unique(part_of))
    )


def _bps(probability: float, *, least: int = 1) -> int:
    """Rounded up: a probability of default is never understated. Never 0 or 1, of which no sample can be sure."""
    most = WHOLE_BPS - 1 if least else WHOLE_BPS
    return min(max(least, math.ceil(probability * WHOLE_BPS - 1e-9)), most)
