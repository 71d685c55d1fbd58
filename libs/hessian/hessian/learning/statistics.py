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
from hessian.learning.features import LARGEST_DIMENSION, IntMatrix
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
    sums = _Sums(dimension)
    rows = 0
    for features, labels in blocks:
        if features.ndim != 2 or features.shape[1] != dimension or labels.shape != features.shape[:1]:
            raise StatisticsRefused("a block's shape does not fit the specification")
        rows += len(labels)
        sums.add(np.column_stack([features, 2 * labels - 1]))
    total = sums.total()
    return SufficientStatistics(
        rows, tuple(tuple(line[:dimension]) for line in total[:dimension]), tuple(line[dimension] for line in total[:dimension])
    )


def pooled(parts: Iterable[SufficientStatistics]) -> SufficientStatistics:
    """The statistics of all rows together: the plaintext counterpart of a cohort's sum. Raises StatisticsRefused."""
    first, *others = parts
    if any(part.dimension != first.dimension for part in others):
        raise StatisticsRefused("statistics of different dimensions cannot be added")
    members = (first, *others)
    gram = tuple(tuple(map(sum, zip(*lines, strict=True))) for lines in zip(*(part.gram for part in members), strict=True))
    moment = tuple(map(sum, zip(*(part.moment for part in members), strict=True)))
    return SufficientStatistics(sum(part.rows for part in members), gram, moment)


class _Sums:
    """Σ zᵀz over rows z = (x, 2y − 1), exactly."""

    def __init__(self, dimension: int) -> None:
        self._recent = np.zeros((dimension + 1, dimension + 1), dtype=np.int64)
        self._recent_bound = 0
        self._earlier: list[list[int]] = [[0] * (dimension + 1) for _ in range(dimension + 1)]

    def add(self, block: IntMatrix) -> None:
        largest = max(1, int(np.abs(block).max(initial=0)))
        step = _FLOAT64_EXACT // largest**2  # rows whose products still add up below 2^53
        if step == 0:
            raise InexactSum
        for start in range(0, len(block), step):
            part = block[start : start + step].astype(np.float64)
            bound = len(part) * largest**2
            if self._recent_bound + bound >= _INT64_END:
                self._spill()
            self._recent += (part.T @ part).astype(np.int64)
            self._recent_bound += bound

    def total(self) -> list[list[int]]:
        self._spill()
        return self._earlier

    def _spill(self) -> None:
        recent: list[list[int]] = self._recent.tolist()
        self._earlier = [[a + b for a, b in zip(*lines, strict=True)] for lines in zip(self._earlier, recent, strict=True)]
        self._recent[:] = 0
        self._recent_bound = 0


def _integers(texts: tuple[str, ...]) -> tuple[int, ...]:
    if not all(text.removeprefix("-").isdecimal() and text.isascii() for text in texts):
        raise ShapeRefused("statistics must be whole numbers in decimal text")
    return tuple(map(int, texts))
