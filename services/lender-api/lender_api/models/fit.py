"""From an outline and the validation rows to everything a model starts with. Pure: no I/O, no secrets but the rows it is given."""

from __future__ import annotations

from dataclasses import dataclass

from hessian.artifacts import codec
from hessian.errors import Malformed
from hessian.identifiers import ErrorUnits
from hessian.learning.affine import FixedPointBounds, bounds_for, initial_weights, step_size
from hessian.learning.columns import Columns
from hessian.learning.features import FeatureSpecification, IntMatrix
from hessian.learning.fitting import Outline, fit
from hessian.learning.metrics import validation_error
from hessian.learning.objective import Objective
from hessian.learning.plain import BILLION
from hessian.learning.statistics import accumulate
from hessian.paillier.packing import slot_layout
from hessian.privacy.accounting import rho_for
from hessian.privacy.clipping import norm_quantile
from hessian.privacy.requirement import PrivacyRequirement

ROWS_PER_ENTRY = 10
"""Validation rows per entry of the model: below that the fitted scales and the measured error are noise."""

CLIP_SHARE = 0.5
"""Rows that keep their length when nobody chose a clip norm: a shorter norm bends more rows, a longer one needs more noise for all."""

LARGEST_ARTIFACT = 1 << 20
_ROOM_FOR_NAMES = 64 * 1024


class TooFewRows(Malformed):
    """The validation set has too few rows for this many features."""


class WeightsTooLarge(Malformed):
    """The encrypted weights would not fit one artifact of 1 MiB."""


@dataclass(frozen=True, slots=True)
class PrivacyWish:
    """`epsilon` and `delta` at 10^-15; `clip_norm` in billionths, or None for what CLIP_SHARE of the validation rows keep."""

    epsilon: int
    delta: int
    clip_norm: int | None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model before its first round: `weights` at 2^-weight_bits, `step` at 2^-32, `error` of these weights."""

    specification: FeatureSpecification
    bounds: FixedPointBounds
    step: int
    weights: tuple[int, ...]
    error: ErrorUnits
    privacy: PrivacyRequirement | None = None


def fit_model(
    outline: Outline, columns: Columns, objective: Objective, *, key_bits: int, cohort_size: int, privacy: PrivacyWish | None = None
) -> Fitted:
    """Fit on all validation rows.

    Raises CellRefused, ColumnMissing, FitRefused, SpecificationRefused, BoundsRefused, TooFewRows, WeightsTooLarge, ArtifactRefused or
    ShapeRefused when the specification could not be published, PrivacyRefused for a norm or a strength that cannot be kept, and
    LayoutRefused when the bounds do not fit the key.
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
    step = step_size(accumulate([(features, labels)], d), specification.feature_bits, objective)
    requirement = None if privacy is None else _requirement(privacy, features, specification.feature_bits)
    if requirement is None:
        bounds = bounds_for(specification, objective=objective, step=step)
    else:
        bounds = requirement.bounds(specification, objective, step)
    slot_layout(key_bits, bound=bounds.slot_bound(cohort_size, d))
    weights = tuple(initial_weights(int(labels.sum()), rows, d, bounds, objective))
    return Fitted(
        specification=specification,
        bounds=bounds,
        step=step,
        weights=weights,
        error=validation_error(weights, features, labels, score_bits=bounds.weight_bits + specification.feature_bits, objective=objective),
        privacy=requirement,
    )


def _requirement(wish: PrivacyWish, features: IntMatrix, feature_bits: int) -> PrivacyRequirement:
    """The weakest noise that keeps what was wished for."""
    given = None if wish.clip_norm is None else (wish.clip_norm << feature_bits) // BILLION
    clip_norm = norm_quantile(features, CLIP_SHARE) if given is None else given
    return PrivacyRequirement(wish.epsilon, wish.delta, rho_for(wish.epsilon, wish.delta), clip_norm)
