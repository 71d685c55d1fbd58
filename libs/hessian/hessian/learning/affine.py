"""The affine gradient of the quadratic loss in exact integers, its published bounds, and the lender's step (PROTOCOL §3).

Loss `squared`, ½·mean((w·φ(x) − y)²), one local step (K = 1). Member i with statistics (Gᵢ, hᵢ) over nᵢ of the cohort's N rows sends

    gradientᵢ(w) = Aᵢ·w − bᵢ      Aᵢ = Gᵢ/N        integers at 2^-fA
                                  bᵢ = Xᵢᵀy/N      integers at 2^-(fA+fw)        Xᵢᵀy = hᵢ + ½·Gᵢ[:, intercept]

and w is integers at 2^-fw, so that A·w and b align. Every rounding is to the nearest integer, halves up, in integers: two machines never
differ. The members' shares nᵢ/N add up to 1: the sum of their gradients is the cohort's mean gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Malformed, Refused
from hessian.learning.features import LARGEST_DIMENSION, FeatureSpecification
from hessian.learning.plain import Fields, Plain
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics

STEP_BITS = 32  # a step η is an integer at 2^-32
LOSSES = ("squared",)
LARGEST_STEP = 2**40  # η ≤ 256
_STEP_MARGIN = 1.2  # η = 1/(1.2·λ_max): a cohort whose λ_max exceeds the validation rows' by a fifth still descends


class BoundsRefused(Malformed):
    """The fixed-point bounds cannot be used as they stand."""


class LossRefused(Malformed):
    """This node does not train that loss."""


def check_loss(loss: str, local_steps: int) -> None:
    """Only `squared` with one local step. Raises LossRefused."""
    if loss not in LOSSES:
        raise LossRefused(f"the loss {loss!r} is not supported, only {', '.join(LOSSES)}")
    if local_steps != 1:
        raise LossRefused(f"local_steps must be 1, not {local_steps}")


@dataclass(frozen=True)
class FixedPointBounds:
    """Scales and bounds every party computes with; public, from the specification alone.

    `weight_bits` fw, `matrix_bits` fA; `largest_weight` W ≥ |w_j|, `largest_row_sum` R ≥ the absolute row sums of φφᵀ,
    `largest_offset` B ≥ |φ_j·y|.
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

    def covers(self, specification: FeatureSpecification) -> bool:
        """No row of the specification breaks R or B."""
        return self.largest_row_sum >= specification.largest_row_sum and self.largest_offset >= specification.largest_entry

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


def bounds_for(
    specification: FeatureSpecification, *, weight_bits: int = 24, matrix_bits: int = 20, largest_weight: int = 4
) -> FixedPointBounds:
    """The tightest bounds the specification allows, at these scales."""
    return FixedPointBounds(weight_bits, matrix_bits, largest_weight, specification.largest_row_sum, specification.largest_entry)


@dataclass(frozen=True)
class GradientMap:
    """gradient(w) = (matrix·w − offset): matrix d × d at 2^-fA, offset d at 2^-(fA+fw)."""

    matrix: tuple[tuple[int, ...], ...]
    offset: tuple[int, ...]

    def at(self, weights: Sequence[int]) -> list[int]:
        """The plaintext gradient at weights of scale 2^-fw: what the ciphertexts hold, before masks."""
        return [sum(a * w for a, w in zip(row, weights, strict=True)) - b for row, b in zip(self.matrix, self.offset, strict=True)]

    def __repr__(self) -> str:
        return f"GradientMap(dimension={len(self.offset)})"


def gradient_map(statistics: SufficientStatistics, total_rows: int, feature_bits: int, bounds: FixedPointBounds) -> GradientMap:
    """A member's (A, b): its statistics divided by the cohort's declared rows `total_rows`. Raises StatisticsRefused."""
    if not 1 <= statistics.rows <= total_rows:
        raise StatisticsRefused("a member's rows must be part of the cohort's")
    scale, divisor = 1 << bounds.matrix_bits, total_rows << (2 * feature_bits)
    matrix = tuple(tuple(_round(entry * scale, divisor) for entry in row) for row in statistics.gram)
    # 2·Xᵀy at 2^-2f: the moment is 2h at 2^-f, the intercept's column of G is Xᵀ1 at 2^-2f.
    doubled = [(moment << feature_bits) + row[0] for moment, row in zip(statistics.moment, statistics.gram, strict=True)]
    offset = tuple(_round(entry << bounds.gradient_bits, 2 * divisor) for entry in doubled)
    return GradientMap(matrix, offset)


def check_statistics(statistics: SufficientStatistics, specification: FeatureSpecification, bounds: FixedPointBounds) -> None:
    """Could rows of this specification have these statistics, within the bounds? An owner's own node asks before it joins.

    Raises StatisticsRefused.
    """
    d, n = specification.dimension, statistics.rows
    largest = specification.largest_quantised_entries
    gram, moment = statistics.gram, statistics.moment
    if not bounds.covers(specification):
        raise StatisticsRefused("the bounds are narrower than the specification allows rows to be")
    if n < 1 or len(moment) != d or len(gram) != d or any(len(row) != d for row in gram):
        raise StatisticsRefused("the statistics do not have the specification's shape")
    if gram[0][0] != n << (2 * specification.feature_bits):
        raise StatisticsRefused("the intercept's square does not count the rows")
    for i in range(d):
        if abs(moment[i]) > n * largest[i] or not 0 <= gram[i][i] <= n * largest[i] ** 2:
            raise StatisticsRefused(f"the entry {specification.names[i]!r} is larger than its clips allow")
        if any(gram[i][j] != gram[j][i] or gram[i][j] ** 2 > gram[i][i] * gram[j][j] for j in range(i)):
            raise StatisticsRefused(f"the row {specification.names[i]!r} is not one of a matrix of squares")
        if sum(map(abs, gram[i])) > n * (bounds.largest_row_sum << (2 * specification.feature_bits)):
            raise StatisticsRefused(f"the row {specification.names[i]!r} breaks the bound on row sums")
    scaled = np.array([[float(entry) for entry in row] for row in gram]) / float(gram[0][0])
    eigenvalues = np.linalg.eigvalsh(scaled)
    if eigenvalues[0] < -1e-9 * max(1.0, float(eigenvalues[-1])):  # eigvalsh is exact to a few d·2^-52
        raise StatisticsRefused("the matrix is not one of squares: it has a negative eigenvalue")


def step_size(statistics: SufficientStatistics, feature_bits: int) -> int:
    """η = 1/(1.2·λ_max) of the validation rows' G/n, as an integer at 2^-32, rounded down."""
    scale = float(statistics.rows) * 4.0**feature_bits
    largest = float(np.linalg.eigvalsh(np.array([[float(entry) / scale for entry in row] for row in statistics.gram]))[-1])
    return min(int(2.0**STEP_BITS / (_STEP_MARGIN * largest)), LARGEST_STEP)


def initial_weights(positives: int, rows: int, dimension: int, bounds: FixedPointBounds) -> list[int]:
    """Zero, but the intercept: the validation base rate positives/rows, at 2^-fw."""
    if not 0 <= positives <= rows or rows < 1 or not 1 <= dimension <= LARGEST_DIMENSION:
        raise Refused("a base rate needs rows, and no more positives than rows")
    return [_round(positives << bounds.weight_bits, rows), *([0] * (dimension - 1))]


def descend(weights: Sequence[int], gradient: Sequence[int], step: int, bounds: FixedPointBounds) -> list[int]:
    """w − η·gradient in exact integers, each |w_j| clamped to W: weights at 2^-fw, gradient at 2^-(fA+fw), step at 2^-32."""
    unit, limit = 1 << (STEP_BITS + bounds.matrix_bits), bounds.weight_limit
    moved = (weight - _round(step * slope, unit) for weight, slope in zip(weights, gradient, strict=True))
    return [max(-limit, min(limit, weight)) for weight in moved]


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
