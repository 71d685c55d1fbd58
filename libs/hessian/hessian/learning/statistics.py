"""Sufficient statistics: everything a quadratic loss needs of an owner's rows, once, exactly, in bounded memory (PROTOCOL §3).

    G = XᵀX             integers at 2^-2f          (f = feature_bits)
    h = Xᵀ(y − ½)       integers at 2^-(f+1), i.e. Xᵀ(2y − 1) of the quantised X

Exact integers: each block is multiplied in float64 by BLAS with every sum below 2⁵³, blocks are added in int64 below 2⁶³ and beyond that in
Python integers. The result does not depend on how rows were cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hessian.errors import Malformed, Violated
from hessian.learning.features import LARGEST_DIMENSION, FloatMatrix, IntMatrix
from hessian.learning.plain import Fields, Plain, ShapeRefused

_FLOAT64_EXACT = 2**53
_INT64_END = 2**63


class StatisticsRefused(Malformed):
    """These sufficient statistics cannot come from rows of this specification."""


class InexactSum(Violated):
    """An entry of X is too large for an exact sum: the specification's bound does not hold."""


@dataclass(frozen=True)
class SufficientStatistics:
    """`rows` n, `gram` G (d × d, symmetric), `moment` h (d). Private: together they can give rows away."""

    rows: int
    gram: tuple[tuple[int, ...], ...]
    moment: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.moment)

    def __repr__(self) -> str:
        return f"SufficientStatistics(rows={self.rows}, dimension={self.dimension})"  # never the numbers: they would reach log lines

    def to_plain(self) -> dict[str, Plain]:
        """Decimal text, since entries outgrow 64 bits; of G the lower triangle, row after row."""
        lower = [str(self.gram[i][j]) for i in range(self.dimension) for j in range(i + 1)]
        return {"rows": self.rows, "gram": lower, "moment": [str(entry) for entry in self.moment]}

    @classmethod
    def from_plain(cls, value: object) -> SufficientStatistics:
        """The inverse of `to_plain`. Raises ShapeRefused."""
        fields = Fields(value, "statistics")
        rows = fields.integer("rows", 0, 2**32 - 1)
        moment = _integers(fields.texts("moment", LARGEST_DIMENSION, 40))
        d = len(moment)
        lower = _integers(fields.texts("gram", LARGEST_DIMENSION * (LARGEST_DIMENSION + 1) // 2, 40))
        fields.done()
        if len(lower) != d * (d + 1) // 2:
            raise ShapeRefused("statistics.gram must be the lower triangle that belongs to the moment")
        return cls(rows, tuple(tuple(lower[max(i, j) * (max(i, j) + 1) // 2 + min(i, j)] for j in range(d)) for i in range(d)), moment)


def accumulate(blocks: Iterable[tuple[IntMatrix, IntMatrix]], dimension: int) -> SufficientStatistics:
    """The statistics of a stream of (X block n × d, y block n of {0, 1}). Raises InexactSum, StatisticsRefused for a wrong shape."""
    sums = Sums(dimension)
    for features, labels in blocks:
        if features.ndim != 2 or features.shape[1] != dimension or labels.shape != features.shape[:1]:
            raise StatisticsRefused("a block's shape does not fit the specification")
        largest = int(np.abs(features).max(initial=0))
        sums.add(np.column_stack([features, 2 * labels - 1]).astype(np.float64), largest)
    return sums.statistics()


def pooled(parts: Iterable[SufficientStatistics]) -> SufficientStatistics:
    """The statistics of all rows together: the plaintext counterpart of a cohort's sum. Raises StatisticsRefused."""
    first, *others = parts
    if any(part.dimension != first.dimension for part in others):
        raise StatisticsRefused("statistics of different dimensions cannot be added")
    members = (first, *others)
    gram = tuple(tuple(map(sum, zip(*lines, strict=True))) for lines in zip(*(part.gram for part in members), strict=True))
    moment = tuple(map(sum, zip(*(part.moment for part in members), strict=True)))
    return SufficientStatistics(sum(part.rows for part in members), gram, moment)


class Sums:
    """Σ zᵀz over rows z = (x, 2y − 1), exactly. Not for two threads at once: each has its own, and they are merged."""

    def __init__(self, dimension: int) -> None:
        self.rows = 0
        self._recent = np.zeros((dimension + 1, dimension + 1), dtype=np.int64)
        self._recent_bound = 0
        self._earlier: list[list[int]] | None = None  # what outgrew 64 bits

    def add(self, block: FloatMatrix, largest: int) -> None:
        """Rows z (n × (d + 1)): integers in float64, none of x above `largest`. Raises InexactSum when a square would not be exact."""
        square = max(1, largest) ** 2
        step = _FLOAT64_EXACT // square  # rows whose products still add up below 2^53
        if step == 0:
            raise InexactSum
        for start in range(0, len(block), step):
            part = block[start : start + step]
            self._make_room(len(part) * square)
            self._recent += (part.T @ part).astype(np.int64)
        self.rows += len(block)

    def merge(self, other: Sums) -> None:
        """Add another's rows to these."""
        self._make_room(other._recent_bound)
        self._recent += other._recent
        if other._earlier is not None:
            self._earlier = _added(self._earlier, other._earlier)
        self.rows += other.rows

    def statistics(self) -> SufficientStatistics:
        """G and h so far."""
        total = _added(self._earlier, self._recent.tolist())
        return SufficientStatistics(self.rows, tuple(tuple(line[:-1]) for line in total[:-1]), tuple(line[-1] for line in total[:-1]))

    def _make_room(self, bound: int) -> None:
        """So that entries up to `bound` can be added within 64 bits."""
        if self._recent_bound + bound >= _INT64_END:
            self._earlier = _added(self._earlier, self._recent.tolist())
            self._recent[:] = 0
            self._recent_bound = 0
        self._recent_bound += bound


def _added(earlier: list[list[int]] | None, more: list[list[int]]) -> list[list[int]]:
    if earlier is None:
        return more
    return [[a + b for a, b in zip(*lines, strict=True)] for lines in zip(earlier, more, strict=True)]


def _integers(texts: tuple[str, ...]) -> tuple[int, ...]:
    if not all(text.removeprefix("-").isdecimal() and text.isascii() for text in texts):
        raise ShapeRefused("statistics must be whole numbers in decimal text")
    return tuple(map(int, texts))
