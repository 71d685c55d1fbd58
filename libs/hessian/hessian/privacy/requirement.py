"""What a model demands of every member's rows and statistics: a clip norm C and noise of a stated strength (PROTOCOL §5).

One release (the rows, the specification, the label, this requirement) is ρ-zCDP for the replacement of one row (Bun, Steinke, TCC 2016),
and the (ε, δ) beside it is what that ρ is worth. Owners' nodes check the claim (`accounting`); the arithmetic of the noise needs ρ alone,
a rational number, so that no node ever computes a variance in floating point.

    Δ² = 2·(C² + T²/2)²      squared sensitivity of (G, h) in the Frobenius norm, for T² ≤ 2·C²; otherwise 4·C²·T²
    σ² = Δ²/(2ρ)             variance of the noise on the diagonal of G and on h; half of it off the diagonal, where the norm counts twice

Rows are clipped after they are quantised, so Δ needs no term for rounding. T = ½: labels are 0 or 1 and h holds y − ½.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil, isqrt

from hessian.errors import Malformed
from hessian.identifiers import Digest, digest_of
from hessian.learning.affine import FixedPointBounds, bounds_for
from hessian.learning.features import LARGEST_QUANTISED_ENTRY, FeatureSpecification
from hessian.learning.objective import STEP_BITS, Objective
from hessian.learning.plain import Fields, Plain

UNIT = 10**15
"""ε, δ and ρ are integers at 10^-15."""

LARGEST_LOSS = 1_000 * UNIT
LARGEST_DELTA = UNIT // 1_000
CLAMP_MARGIN = 2
"""Noised entries are clamped to this many times what clipped rows can add up to."""

LABEL_BOUND = Fraction(1, 2)
_LARGEST_CLIP = 32 * LARGEST_QUANTISED_ENTRY  # √1024 entries of the largest size: beyond it no row is ever clipped


class PrivacyRefused(Malformed):
    """The privacy requirement cannot be kept as it stands."""


def in_words(value: int) -> str:
    """An integer at 10^-15 as the shortest decimal text."""
    return f"{(Decimal(value) / UNIT).normalize():f}"


def squared_sensitivity(clip_norm: Fraction, label_bound: Fraction = LABEL_BOUND) -> Fraction:
    """Δ²: the largest ‖xxᵀ − x′x′ᵀ‖² + ‖xt − x′t′‖² over ‖x‖, ‖x′‖ ≤ C and |t|, |t′| ≤ T (PROTOCOL §5)."""
    if label_bound**2 <= 2 * clip_norm**2:
        return 2 * (clip_norm**2 + label_bound**2 / 2) ** 2
    return 4 * clip_norm**2 * label_bound**2


@dataclass(frozen=True)
class Variances:
    """Of the noise on the integers of `SufficientStatistics`: `gram` at 2^-2f on and off the diagonal, `moment` at 2^-(f+1)."""

    diagonal: Fraction
    off_diagonal: Fraction
    moment: Fraction


@dataclass(frozen=True)
class PrivacyRequirement:
    """`epsilon`, `delta` and `rho` of one release at 10^-15; `clip_norm` C at 2^-feature_bits, the intercept's 1 included."""

    epsilon: int
    delta: int
    rho: int
    clip_norm: int

    def __post_init__(self) -> None:
        if not (1 <= self.epsilon <= LARGEST_LOSS and 1 <= self.rho <= LARGEST_LOSS):
            raise PrivacyRefused("epsilon and rho must be above 0 and at most 1000")
        if not 1 <= self.delta <= LARGEST_DELTA:
            raise PrivacyRefused("delta must be above 0 and at most 0.001")
        if not 2 <= self.clip_norm <= _LARGEST_CLIP:
            raise PrivacyRefused("the clip norm must be above 1, which is the intercept's share of it, and at most that of any row")

    def mechanism(self, specification: FeatureSpecification) -> Digest:
        """The name of what is done to rows, noise and all: with the rows, it names a release. ε and δ only say what it is worth."""
        return digest_of(specification.digest + self.clip_norm.to_bytes(8, "big") + self.rho.to_bytes(8, "big"))

    def variances(self, feature_bits: int) -> Variances:
        """Exactly, for base statistics of `feature_bits` f."""
        sensitivity = squared_sensitivity(Fraction(self.clip_norm, 1 << feature_bits))
        variance = sensitivity * UNIT / (2 * self.rho)
        diagonal = variance * (1 << 4 * feature_bits)
        return Variances(diagonal, diagonal / 2, variance * (1 << 2 * feature_bits + 2))

    def map_bounds(self, specification: FeatureSpecification, objective: Objective, step: int) -> tuple[int, int]:
        """(R, B) as `affine.map_bounds`, over clamped noised statistics instead of rows. Raises PrivacyRefused for a norm of 1 or less.

        Entries of G are at most 2·C² per row, of h at most C, whatever the noise: R = α·2·d·C² + ρ', B = C + C² (logistic-taylor1: C). With
        K local steps R = √d as ever, and c adds up K steps of η·b, whose length is at most √d·B.
        """
        one, d = 1 << specification.feature_bits, specification.dimension
        if self.clip_norm <= one:
            raise PrivacyRefused("the clip norm must be above 1, which the intercept takes of it")
        norm = Fraction(self.clip_norm, one)
        offset = CLAMP_MARGIN * norm / 2 + (0 if objective.is_logistic else CLAMP_MARGIN * norm**2 / 2)
        if objective.local_steps == 1:
            ridge = Fraction(objective.ridge, 1 << STEP_BITS)
            return ceil(Fraction(objective.curvature_quarters, 4) * CLAMP_MARGIN * d * norm**2 + ridge), ceil(offset)
        steps = objective.local_steps * Fraction(step, 1 << STEP_BITS)
        return isqrt(d) + 1, ceil(steps * (isqrt(d) + 1) * offset)

    def bounds(self, specification: FeatureSpecification, objective: Objective, step: int) -> FixedPointBounds:
        """The tightest a manifest with this requirement may publish. Raises PrivacyRefused, BoundsRefused."""
        row_sum, offset = self.map_bounds(specification, objective, step)
        return replace(bounds_for(specification, objective=objective, step=step), largest_row_sum=row_sum, largest_offset=offset)

    def covered_by(self, bounds: FixedPointBounds, specification: FeatureSpecification, objective: Objective, step: int) -> bool:
        """No noised statistics break R or B. Raises PrivacyRefused."""
        row_sum, offset = self.map_bounds(specification, objective, step)
        return bounds.largest_row_sum >= row_sum and bounds.largest_offset >= offset

    def to_plain(self) -> dict[str, Plain]:
        """A map of the four integers."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_plain(cls, value: object, place: str = "privacy") -> PrivacyRequirement:
        """The inverse of `to_plain`. Raises ShapeRefused, PrivacyRefused."""
        fields = Fields.of(value, place)
        requirement = cls(**{name: fields.integer(name, 1, 2**63 - 1) for name in cls.__dataclass_fields__})
        fields.done()
        return requirement
