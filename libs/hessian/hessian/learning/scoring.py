"""The scoring scale: how a trained model's weights and a borrower's features become a score of t bits (PROTOCOL §10).

    score = Σ_j w_j·x_j      x_j at 2^-feature_bits, w_j at 2^-weight_bits, score at 2^-(feature_bits + weight_bits)

The scale is coarser than training's and public. Every honest score fits t = `blinding_bits` bits with its sign, because
L1·largest_weight < 2^(t−1), where L1 = max ‖x‖₁ follows from the feature specification alone. Features are encoded exactly as in training
and then rounded; both roundings are to the nearest integer, halves up: two machines never differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hessian.errors import Malformed
from hessian.learning.features import FeatureSpecification, IntMatrix, coarsened
from hessian.learning.plain import Fields, Plain

DEFAULT_BLINDING_BITS = 32
LEAST_BLINDING_BITS, MOST_BLINDING_BITS = 8, 40
LARGEST_FEATURE_BITS, LARGEST_WEIGHT_BITS = 24, 48


class ScaleRefused(Malformed):
    """The scoring scale cannot be used as it stands."""


@dataclass(frozen=True)
class ScoringScale:
    """`largest_weight`: an integer at 2^-weight_bits that no |w_j| exceeds. t above 40 is refused: a query tells the lender t + 1 bits."""

    feature_bits: int
    weight_bits: int
    largest_weight: int
    blinding_bits: int = DEFAULT_BLINDING_BITS

    def __post_init__(self) -> None:
        if not LEAST_BLINDING_BITS <= self.blinding_bits <= MOST_BLINDING_BITS:
            raise ScaleRefused(
                f"the blinding bits must lie between {LEAST_BLINDING_BITS} and {MOST_BLINDING_BITS}: "
                "a query tells the lender one bit more than that"
            )
        if not (1 <= self.feature_bits <= LARGEST_FEATURE_BITS and 1 <= self.weight_bits <= LARGEST_WEIGHT_BITS):
            raise ScaleRefused(f"the scoring scale's bits must lie between 1 and {LARGEST_FEATURE_BITS} or {LARGEST_WEIGHT_BITS}")
        if not 1 <= self.largest_weight < self.score_limit:
            raise ScaleRefused("the largest weight must be positive and smaller than a score may be")

    @property
    def score_bits(self) -> int:
        """A score is an integer at 2^-score_bits."""
        return self.feature_bits + self.weight_bits

    @property
    def score_limit(self) -> int:
        """2^(t−1): every honest score is smaller in absolute value."""
        return 1 << (self.blinding_bits - 1)

    def check_against(self, specification: FeatureSpecification) -> None:
        """Every row of the specification has a score that fits t bits with its sign. Raises ScaleRefused."""
        if self.feature_bits > specification.feature_bits:
            raise ScaleRefused("the scoring scale is finer than the features of the model")
        if specification.largest_norm_at(self.feature_bits) * self.largest_weight >= self.score_limit:
            raise ScaleRefused(f"a score could need more than {self.blinding_bits} bits: the scoring scale is too fine")

    def features(self, specification: FeatureSpecification, design: IntMatrix) -> IntMatrix:
        """Rows of `FeatureSpecification.design` at this scale, n × d."""
        return coarsened(design, specification.feature_bits - self.feature_bits)

    def weights(self, weights: Sequence[int], bits: int) -> list[int]:
        """Weights at 2^-bits as integers at 2^-weight_bits. Raises ScaleRefused for one beyond `largest_weight`."""
        rounded = _rescaled(weights, bits, self.weight_bits)
        if any(abs(weight) > self.largest_weight for weight in rounded):
            raise ScaleRefused("a weight is larger than the scoring scale allows")
        return rounded

    def to_plain(self) -> dict[str, Plain]:
        """A map of the four integers."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_plain(cls, value: object, place: str = "scale") -> ScoringScale:
        """The inverse of `to_plain`. Raises ShapeRefused, ScaleRefused."""
        fields = Fields.of(value, place)
        scale = cls(**{name: fields.integer(name, 1, 1 << MOST_BLINDING_BITS) for name in cls.__dataclass_fields__})
        fields.done()
        return scale


def scale_for(
    specification: FeatureSpecification, weights: Sequence[int], weight_bits: int, *, blinding_bits: int = DEFAULT_BLINDING_BITS
) -> ScoringScale:
    """The finest scale for these weights at 2^-weight_bits: the one whose roundings can move a score least. Raises ScaleRefused.

    `largest_weight` is the next power of two, so that it tells the largest weight's magnitude and no more.
    """
    weight_norm, feature_norm = sum(map(abs, weights)), specification.largest_quantised_norm
    candidates: list[tuple[int, ScoringScale]] = []
    for feature_bits in range(1, specification.feature_bits + 1):
        norm = specification.largest_norm_at(feature_bits)
        for bits in range(weight_bits, 0, -1):
            largest = _power_of_two(max(map(abs, _rescaled(weights, weight_bits, bits)), default=0))
            if norm * largest >= 1 << (blinding_bits - 1):
                continue
            # twice the largest error, ‖w‖₁·2^-feature_bits + ‖x‖₁·2^-weight_bits, in units of the two fine scales' product
            error = (weight_norm << (specification.feature_bits - feature_bits)) + (feature_norm << (weight_bits - bits))
            candidates.append((error, ScoringScale(feature_bits, bits, largest, blinding_bits)))
            break
    if not candidates:
        raise ScaleRefused(f"no score of this specification fits {blinding_bits} bits: more blinding bits are needed")
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _rescaled(weights: Sequence[int], bits: int, wanted: int) -> list[int]:
    dropped = bits - wanted
    if dropped <= 0:
        return [weight << -dropped for weight in weights]
    return [(weight + (1 << (dropped - 1))) >> dropped for weight in weights]


def _power_of_two(value: int) -> int:
    return 1 << max(0, (value - 1).bit_length()) if value > 0 else 1
