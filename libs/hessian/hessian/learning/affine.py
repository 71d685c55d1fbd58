"""A member's affine map in exact integers and its published bounds, the start and the plain step (PROTOCOL §3; one local step, K = 1).

Member i with statistics (Gᵢ, hᵢ) over nᵢ of the cohort's N rows sends

    gradientᵢ(w) = Aᵢ·w − bᵢ      Aᵢ = α·Gᵢ/N + (nᵢ/N)·ρ·I'      integers at 2^-fA
                                  bᵢ = Xᵢᵀy/N  or  hᵢ/N          integers at 2^-(fA+fw)        Xᵢᵀy = hᵢ + ½·Gᵢ[:, intercept]

(α, ρ, I': objective.py) and w is integers at 2^-fw, so that A·w and b align. Every rounding is to the nearest integer, halves up, in
integers: two machines never differ. The members' shares nᵢ/N add up to 1: the sum of their gradients is the cohort's mean gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Malformed, Refused
from hessian.learning.features import LARGEST_DIMENSION, FeatureSpecification
from hessian.learning.objective import LARGEST_STEP, SQUARED, STEP_BITS, Objective
from hessian.learning.plain import Fields, Plain
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics

_STEP_MARGIN = 1.2  # η = 1/(1.2·λ_max): a cohort whose λ_max exceeds the validation rows' by a fifth still descends


class BoundsRefused(Malformed):
    """The fixed-point bounds cannot be used as they stand."""


@dataclass(frozen=True)
class FixedPointBounds:
    """Scales and bounds every party computes with; public, from the specification alone.

    `weight_bits` fw, `matrix_bits` fA; `largest_weight` W ≥ |w_j|, `largest_row_sum` R and `largest_offset` B as `map_bounds` needs them.
    """

    weight_bits: int
    matrix_bits: int
    largest_weight: int
    largest_row_sum: int
    largest_offset: int

    def __post_init__(self) -> None:
        if not (1 <= self.weight_bits <= 48 and 1 <= self.matrix_bits <= 48):
            raise BoundsRefused("weight_bits and matrix_bits must lie between 1 and 48")
        if not all(1 <= bound < 2**31 for bound in (self.largest_weight, self.largest_row_sum, self.largest_offset)):
            raise BoundsRefused("largest_weight, largest_row_sum and largest_offset must lie between 1 and 2147483647")

    @property
    def gradient_bits(self) -> int:
        """A gradient is integers at 2^-gradient_bits."""
        return self.matrix_bits + self.weight_bits

    @property
    def weight_limit(self) -> int:
        """W as an integer at 2^-fw."""
        return self.largest_weight << self.weight_bits

    def slot_bound(self, members: int, dimension: int) -> int:
        """L: no entry of the sum of `members` honest gradients exceeds it, as integers at 2^-(fA+fw).

        Without rounding, |Σᵢ Aᵢ·w − bᵢ| ≤ R·W + B, because the shares add up to 1. Rounding moves each of the `dimension` entries of a row
        of Aᵢ by at most ½·2^-fA, which |w_j| ≤ W multiplies, and bᵢ by at most ½: for each member ½·(d·W·2^fw + 1) at the gradient's scale.
        """
        exact = ((self.largest_row_sum * self.largest_weight) + self.largest_offset) << self.gradient_bits
        return exact + -(-members * (dimension * self.weight_limit + 1) // 2)

    def covers(self, specification: FeatureSpecification, objective: Objective = SQUARED, step: int = 1) -> bool:
        """No rows of the specification break R or B. `step` η at 2^-32."""
        row_sum, offset = map_bounds(specification, objective, step)
        return self.largest_row_sum >= row_sum and self.largest_offset >= offset

    def to_plain(self) -> dict[str, Plain]:
        """A map of the five integers."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_plain(cls, value: object, place: str = "bounds") -> FixedPointBounds:
        """The inverse of `to_plain`. Raises ShapeRefused, BoundsRefused."""
        fields = Fields.of(value, place)
        bounds = cls(**{name: fields.integer(name, 1, 2**31 - 1) for name in cls.__dataclass_fields__})
        fields.done()
        return bounds


def map_bounds(specification: FeatureSpecification, objective: Objective, step: int) -> tuple[int, int]:
    """(R, B), each rounded up: Σ_j |A_ij| ≤ R and |b_i| ≤ B for every map of rows of this specification, before the division by shares.

    One local step: R = α·max|φ_j|·max‖φ‖₁ + ρ and B = τ·max|φ_j|, where τ bounds |y| or, for logistic-taylor1, |y − ½|. K of them:
    ‖M‖₂ ≤ 1 makes every row sum of M at most √d, and c adds up K steps of η·b, each shortened by M: B = K·η·τ·max‖φ‖₂.
    """
    one = 1 << specification.feature_bits
    halves = 1 if objective.is_logistic else 2
    if objective.local_steps == 1:
        squares = objective.curvature_quarters * specification.largest_quantised_entry * specification.largest_quantised_norm
        row_sum = -(-((squares << STEP_BITS) + (4 * objective.ridge * one**2)) // (4 * one**2 << STEP_BITS))
        return row_sum, -(-halves * specification.largest_quantised_entry // (2 * one))
    length = isqrt(sum(entry**2 for entry in specification.largest_quantised_entries)) + 1
    offset = -(-objective.local_steps * step * halves * length // (2 * one << STEP_BITS))
    return isqrt(specification.dimension) + 1, offset


def bounds_for(
    specification: FeatureSpecification,
    *,
    weight_bits: int = 24,
    matrix_bits: int = 20,
    largest_weight: int | None = None,
    objective: Objective = SQUARED,
    step: int = 1,
) -> FixedPointBounds:
    """The tightest bounds the specification allows, at these scales; W is larger for log odds, whose weights are. Raises BoundsRefused."""
    largest = largest_weight if largest_weight is not None else 16 if objective.is_logistic else 4
    return FixedPointBounds(weight_bits, matrix_bits, largest, *map_bounds(specification, objective, step))


@dataclass(frozen=True)
class AffineMap:
    """w ↦ matrix·w − offset: matrix d × d at 2^-fA, offset d at 2^-(fA+fw). What a member contributes, before encryption."""

    matrix: tuple[tuple[int, ...], ...]
    offset: tuple[int, ...]

    def at(self, weights: Sequence[int]) -> list[int]:
        """Its value at weights of scale 2^-fw, d integers at 2^-(fA+fw): what the ciphertexts hold, before masks."""
        return [sum(a * w for a, w in zip(row, weights, strict=True)) - b for row, b in zip(self.matrix, self.offset, strict=True)]

    def __repr__(self) -> str:
        return f"AffineMap(dimension={len(self.offset)})"


def gradient_map(
    statistics: SufficientStatistics, total_rows: int, feature_bits: int, bounds: FixedPointBounds, objective: Objective = SQUARED
) -> AffineMap:
    """A member's (A, b): its statistics divided by the cohort's declared rows `total_rows`. Raises StatisticsRefused."""
    if not 1 <= statistics.rows <= total_rows:
        raise StatisticsRefused("a member's rows must be part of the cohort's")
    # over the common denominator 4·N at 2^-(2f+32)
    divisor = (4 * total_rows) << (2 * feature_bits + STEP_BITS)
    pull = (4 * statistics.rows * objective.ridge) << (2 * feature_bits)
    matrix = tuple(
        tuple(
            _round(
                (((objective.curvature_quarters * entry) << STEP_BITS) + (pull if i == j and i > 0 else 0)) << bounds.matrix_bits, divisor
            )
            for j, entry in enumerate(row)
        )
        for i, row in enumerate(statistics.gram)
    )
    offset = tuple(
        _round(entry << bounds.gradient_bits, (2 * total_rows) << (2 * feature_bits))
        for entry in doubled_offset(statistics, feature_bits, objective)
    )
    return AffineMap(matrix, offset)


def doubled_offset(statistics: SufficientStatistics, feature_bits: int, objective: Objective) -> list[int]:
    """2·n·b at 2^-2f: 2·Xᵀy, or 2h for logistic-taylor1. The moment is 2h at 2^-f, the intercept's column of G is Xᵀ1 at 2^-2f."""
    moments = (moment << feature_bits for moment in statistics.moment)
    if objective.is_logistic:
        return list(moments)
    return [moment + row[0] for moment, row in zip(moments, statistics.gram, strict=True)]


def check_statistics(statistics: SufficientStatistics, specification: FeatureSpecification) -> None:
    """Could rows of this specification have these statistics? An owner's own node asks before it joins; bounds that cover the
    specification then hold.

    Raises StatisticsRefused.
    """
    d, n = specification.dimension, statistics.rows
    largest = specification.largest_quantised_entries
    gram, moment = statistics.gram, statistics.moment
    if n < 1 or len(moment) != d or len(gram) != d or any(len(row) != d for row in gram):
        raise StatisticsRefused("the statistics do not have the specification's shape")
    if gram[0][0] != n << (2 * specification.feature_bits):
        raise StatisticsRefused("the intercept's square does not count the rows")
    for i in range(d):
        if abs(moment[i]) > n * largest[i] or not 0 <= gram[i][i] <= n * largest[i] ** 2:
            raise StatisticsRefused(f"the entry {specification.names[i]!r} is larger than its clips allow")
        if any(gram[i][j] != gram[j][i] or gram[i][j] ** 2 > gram[i][i] * gram[j][j] for j in range(i)):
            raise StatisticsRefused(f"the row {specification.names[i]!r} is not one of a matrix of squares")
        if sum(map(abs, gram[i])) > n * specification.largest_quantised_entry * specification.largest_quantised_norm:
            raise StatisticsRefused(f"the row {specification.names[i]!r} is longer than rows of this specification can make it")
    scaled = np.array([[float(entry) for entry in row] for row in gram]) / float(gram[0][0])
    eigenvalues = np.linalg.eigvalsh(scaled)
    if eigenvalues[0] < -1e-9 * max(1.0, float(eigenvalues[-1])):  # eigvalsh is exact to a few d·2^-52
        raise StatisticsRefused("the matrix is not one of squares: it has a negative eigenvalue")


def step_size(statistics: SufficientStatistics, feature_bits: int, objective: Objective = SQUARED) -> int:
    """η = 1/(1.2·λ_max) of the validation rows' α·G/n + ρ·I', as an integer at 2^-32, rounded down."""
    largest = float(np.linalg.eigvalsh(curvature(statistics, feature_bits, objective))[-1])
    return min(int(2.0**STEP_BITS / (_STEP_MARGIN * largest)), LARGEST_STEP)


def curvature(statistics: SufficientStatistics, feature_bits: int, objective: Objective) -> NDArray[np.float64]:
    """α·G/n + ρ·I' in float64, d × d."""
    scale = 4 * statistics.rows * 4.0**feature_bits / objective.curvature_quarters
    matrix = np.array([[float(entry) / scale for entry in row] for row in statistics.gram])
    matrix[np.diag_indices(len(matrix))] += np.array([0.0, *[objective.ridge / 2.0**STEP_BITS] * (len(matrix) - 1)])
    return matrix


def initial_weights(positives: int, rows: int, dimension: int, bounds: FixedPointBounds, objective: Objective = SQUARED) -> list[int]:
    """Zero, but the intercept, at 2^-fw: it predicts the validation base rate positives/rows."""
    if not 0 <= positives <= rows or rows < 1 or not 1 <= dimension <= LARGEST_DIMENSION:
        raise Refused("a base rate needs rows, and no more positives than rows")
    intercept = 4 * positives - 2 * rows if objective.is_logistic else positives
    return [_round(intercept << bounds.weight_bits, rows), *([0] * (dimension - 1))]


def descend(weights: Sequence[int], gradient: Sequence[int], step: int, bounds: FixedPointBounds) -> list[int]:
    """w − η·gradient in exact integers, each |w_j| clamped to W: weights at 2^-fw, gradient at 2^-(fA+fw), step at 2^-32."""
    unit, limit = 1 << (STEP_BITS + bounds.matrix_bits), bounds.weight_limit
    moved = (weight - _round(step * slope, unit) for weight, slope in zip(weights, gradient, strict=True))
    return [max(-limit, min(limit, weight)) for weight in moved]


def settle(opened: Sequence[int], bounds: FixedPointBounds) -> list[int]:
    """The weights at 2^-fw that a round of several local steps opened at 2^-(fA+fw), each clamped to W."""
    unit, limit = 1 << bounds.matrix_bits, bounds.weight_limit
    return [max(-limit, min(limit, _round(entry, unit))) for entry in opened]


def descend_float64(
    features: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64], step: float, rounds: int
) -> list[NDArray[np.float64]]:
    """The same updates on all rows in float64, without fixed point, shares or keys: the weights after each round, to compare with."""
    path, now = [], weights
    for _ in range(rounds):
        now = now - step * (features.T @ (features @ now - labels)) / len(labels)
        path.append(now)
    return path


def _round(numerator: int, denominator: int) -> int:
    """The nearest integer, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
