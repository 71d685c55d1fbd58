"""From an outline and the validation rows to everything a model starts with. Pure: no I/O, no secrets but the rows it is given."""

from __future__ import annotations

from dataclasses import dataclass

from hessian.artifacts import codec
from hessian.errors import Malformed
from hessian.identifiers import ErrorUnits
from hessian.learning.affine import FixedPointBounds, bounds_for, initial_weights, step_size
from hessian.learning.columns import Columns
from hessian.learning.features import FeatureSpecification
from hessian.learning.fitting import Outline, fit
from hessian.learning.metrics import validation_error
from hessian.learning.statistics import accumulate
from hessian.paillier.packing import slot_layout

ROWS_PER_ENTRY = 10
"""Validation rows per entry of the model: below that the fitted scales and the measured error are noise."""

LARGEST_ARTIFACT = 1 << 20
_ROOM_FOR_NAMES = 64 * 1024


class TooFewRows(Malformed):
    """The validation set has too few rows for this many features."""


class WeightsTooLarge(Malformed):
    """The encrypted weights would not fit one artifact of 1 MiB."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model before its first round: `weights` at 2^-weight_bits, `step` at 2^-32, `error` of these weights."""

    specification: FeatureSpecification
    bounds: FixedPointBounds
    step: int
    weights: tuple[int, ...]
    error: ErrorUnits


def fit_model(outline: Outline, columns: Columns, *, key_bits: int, cohort_size: int) -> Fitted:
    """Fit on all validation rows.

    Raises CellRefused, ColumnMissing, FitRefused, SpecificationRefused, BoundsRefused, TooFewRows, WeightsTooLarge, ArtifactRefused or
    ShapeRefused when the specification could not be published, and LayoutRefused when the bounds do not fit the key.
    """
    specification = fit(outline, columns)
    features, labels = specification.matrix(columns)
    rows, d = features.shape
    if rows < ROWS_PER_ENTRY * d:
        raise TooFewRows(f"{d} entries need at least {ROWS_PER_ENTRY * d} validation rows, there are {rows}")
    if d * (key_bits // 4) + _ROOM_FOR_NAMES > LARGEST_ARTIFACT:
        raise WeightsTooLarge(f"{d} weights under a key of {key_bits} bits do not fit one artifact of 1 MiB")
    # what is published must be readable by everybody else
    FeatureSpecification.from_plain(codec.decode(codec.encode(specification.to_plain())))
    bounds = bounds_for(specification)
    slot_layout(key_bits, bound=bounds.slot_bound(cohort_size, d))
    weights = tuple(initial_weights(int(labels.sum()), rows, d, bounds))
    return Fitted(
        specification=specification,
        bounds=bounds,
        step=step_size(accumulate([(features, labels)], d), specification.feature_bits),
        weights=weights,
        error=validation_error(weights, features, labels, score_bits=bounds.weight_bits + specification.feature_bits),
    )
