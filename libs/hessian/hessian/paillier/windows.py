"""Recoding for few outputs or few bases: a table of odd powers per base, read by windowed non-adjacent digits (docs/kernel.md).

Straus, "Addition chains of vectors" (American Mathematical Monthly 71, 1964), interleaved as by Möller, "Algorithms for
multi-exponentiation" (SAC 2001), with signed digits: an exponent is Σ digit·2^position with odd digits below 2^(w−1) in absolute value, and
about one position in w + 1 has one. Reciprocals are nearly free in halves (`hessian.paillier.residues`): a negative digit costs nothing
more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from gmpy2 import mpz

from hessian.paillier.exponents import ExponentRow
from hessian.paillier.residues import SplitUnit
from hessian.paillier.tables import LookUps, Table

LARGEST_WIDTH = 8
"""Bounds the tables: 64 odd powers and as many reciprocals, about 0.1 MB per base at 3072 bits."""

_TABLE_COST = 2.3
"""Price of one odd power with its reciprocal, in multiplications of the accumulator by a table entry (measured)."""

_LOOK_UP_COST = 1.2
"""Price of one digit: its multiplication, and its recoding in Python (measured at 2048 bits)."""


_LAST_DIGIT = 0.2
"""Digits a short number takes beyond its share: its last window is rarely full (measured)."""


def best_width(rows: Sequence[ExponentRow]) -> tuple[float, int]:
    """(estimated work, digit width w) of the cheapest windows; the work in multiplications of the accumulator by a table entry.

    A number whose width-2 form has k digits has about 3k/(w + 1) of width w.
    """
    bases = len(rows[0].numbers)
    narrow = sum(sum(row.digits) for row in rows)
    numbers = sum(len(row.islands) for row in rows) * bases
    costs = (
        (_LOOK_UP_COST * (3 * narrow / (width + 1) + _LAST_DIGIT * numbers) + _TABLE_COST * bases * 2 ** (width - 2), width)
        for width in range(2, LARGEST_WIDTH + 1)
    )
    return min(costs)


def non_adjacent_digits(x: mpz, width: int) -> Iterator[tuple[int, int]]:
    """The width-w non-adjacent form of x ≥ 0: pairs (position, odd digit), |digit| < 2^(w−1), Σ digit·2^position = x."""
    full, half, mask = 1 << width, 1 << (width - 1), (1 << width) - 1
    position = 0
    while x:
        zeros = x.bit_scan1()
        position += zeros
        x >>= zeros
        digit = int(x & mask)
        if digit > half:
            digit -= full
        x -= digit
        yield position, digit


class Windows:
    """The look-ups of C rows of exponents over d bases by digits of one width, and the table they go to."""

    def __init__(self, rows: Sequence[ExponentRow], width: int) -> None:
        self._rows = rows
        self._width = width

    def look_ups(self, row: int) -> LookUps:
        """What is multiplied in for one row of exponents, the highest position first."""
        places: defaultdict[int, list[int]] = defaultdict(list)
        for base, exponent in enumerate(self._rows[row].numbers):
            centre = (2 * base + 1) << (self._width - 1)
            sign = 1 if exponent > 0 else -1
            for position, digit in non_adjacent_digits(abs(exponent), self._width):
                places[position].append(centre + sign * digit)
        return sorted(places.items(), reverse=True)

    def table(self, bases: Sequence[SplitUnit], n: mpz) -> Table:
        """The odd powers of base j around place (2j + 1)·2^(w−1): the k-th k places above, its reciprocal k places below."""
        table = Table(len(bases) << self._width)
        for base, power in enumerate(bases):
            centre = (2 * base + 1) << (self._width - 1)
            square = power.times(power, n)
            for k in range(1, 1 << (self._width - 1), 2):
                table.put(centre + k, power)
                table.put(centre - k, power.reciprocal(n))
                power = power.times(square, n)
        return table
