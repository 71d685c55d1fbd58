"""Recoding for many outputs over many bases: clumps of bases, subset products, one look-up per column of bits (docs/kernel.md).

After Pippenger, "On the evaluation of powers and related problems" (FOCS 1976): the bases are cut into clumps of g, and a table holds the
product of every subset of a clump. The exponents of a clump, written below each other in two's complement, then cost one look-up per column
of bits, whatever the subset; the top column counts negatively and reads the reciprocal. A base's share of the table is 2^g/g entries where
a window of the same yield needs 2^(g−2) (`hessian.paillier.windows`), so larger g pay, the more outputs share the table.

Column-packed exponents are short numbers with wide gaps between them: each island (`hessian.paillier.exponents`) has a sign of its own.
Leading copies of the sign are left out clump by clump, and bases of like magnitude share a clump.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from hessian.paillier.exponents import ExponentRow
from hessian.paillier.residues import SplitUnit, subset_products
from hessian.paillier.tables import LookUps, Table

LARGEST_CLUMP = 11
"""Bounds the tables: 2 048 subset products a clump, about 0.16 MB per base at 3072 bits."""

_TABLE_COST = 2.6
"""Price of one subset product, in multiplications of the accumulator by a table entry: measured, with what large tables cost the cache."""

_SIGN_AND_SPREAD = 2
"""Columns an island takes in a clump beyond 3 × the mean number of digits: its sign, and one as the longest member counts (measured)."""

_Numbers = NDArray[np.int64]


def best_clump(rows: Sequence[ExponentRow]) -> tuple[float, int]:
    """(estimated work, clump size g) of the cheapest clumps; the work in multiplications of the accumulator by a table entry."""
    bases = len(rows[0].numbers)
    columns = sum(3 * sum(row.digits) / bases + _SIGN_AND_SPREAD * len(row.islands) for row in rows)
    costs = ((bases / size * (columns * (1 - 0.5**size) + _TABLE_COST * 2**size), size) for size in range(1, min(LARGEST_CLUMP, bases) + 1))
    return min(costs)


class Clumps:
    """The look-ups of C rows of exponents over d bases in clumps of at most `size`, and the table they go to."""

    def __init__(self, rows: Sequence[ExponentRow], size: int) -> None:
        """Recode every row: it takes about a hundredth of the multiplications' time."""
        bases = len(rows[0].numbers)
        self._order = sorted(range(bases), key=lambda base: sum(row.digits[base] for row in rows))
        self._members = [part.tolist() for part in np.array_split(np.array(self._order), -(-bases // size))]
        sizes = np.array([len(members) for members in self._members])
        self._first_of = np.cumsum(sizes) - sizes
        self._bit_of = np.arange(bases) - np.repeat(self._first_of, sizes)
        self._stride = 1 << size
        self._half = len(self._members) * self._stride  # the reciprocals' places begin here
        self._rows = [self._recode(row) for row in rows]

    def look_ups(self, row: int) -> LookUps:
        """What is multiplied in for one row of exponents, the highest position first."""
        positions, places = self._rows[row]
        starts = np.flatnonzero(np.diff(positions, prepend=-1)).tolist()
        return [(int(positions[start]), places[start:end].tolist()) for start, end in zip(starts, [*starts[1:], None], strict=False)]

    def table(self, bases: Sequence[SplitUnit], n: mpz) -> Table:
        """Every subset product of every clump, and the reciprocals that some sign column reads."""
        needed = np.unique(np.concatenate([places[places >= self._half] for _, places in self._rows])) - self._half
        table = Table(2 * self._half)
        for clump, members in enumerate(self._members):
            lows, inverses, tails = subset_products([bases[member] for member in members], n)
            start = clump * self._stride
            table.lows[start : start + len(lows)], table.tails[start : start + len(tails)] = lows, tails
            for subset in (needed[needed // self._stride == clump] % self._stride).tolist():
                table.put(self._half + start + subset, SplitUnit(lows[subset], inverses[subset], tails[subset]).reciprocal(n))
        return table

    def _recode(self, row: ExponentRow) -> tuple[_Numbers, _Numbers]:
        """(positions, places in the table) of a row's look-ups, the highest position first."""
        if not row.islands:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        starts, signs = np.array(row.islands, dtype=np.int64).T
        lengths = signs - starts + 1
        firsts = np.cumsum(lengths) - lengths  # where each island begins when they lie side by side
        position = np.arange(lengths.sum()) + np.repeat(starts - firsts, lengths)
        lasts = firsts + lengths - 1
        patterns = self._patterns(row, position, lasts)
        sign = patterns[:, lasts]
        differs = patterns != np.repeat(sign, lengths, axis=1)
        kept = np.maximum(starts, np.maximum.reduceat(np.where(differs, position + 1, 0), firsts, axis=1))  # above are copies of the sign
        body = np.nonzero((patterns != 0) & (position < np.repeat(kept, lengths, axis=1)))
        negative = np.nonzero(sign)
        clump = np.arange(len(self._members))[:, None] * self._stride
        positions = np.concatenate([position[body[1]], kept[negative]])
        places = np.concatenate([(clump + patterns)[body], (self._half + clump + sign)[negative]])
        falling = np.argsort(-positions, kind="stable")
        return positions[falling], places[falling]

    def _patterns(self, row: ExponentRow, position: _Numbers, lasts: _Numbers) -> _Numbers:
        """Clump by column: which members have the bit set, at the islands' positions; an island's last column holds its signs."""
        lift = sum(mpz(1) << sign for _, sign in row.islands)  # makes every island positive, and its top bit the opposite of its sign
        length = (row.islands[-1][1] + 8) // 8
        data = b"".join(int(row.numbers[base] + lift).to_bytes(length, "little") for base in self._order)
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8).reshape(-1, length), axis=1, bitorder="little")[:, position]
        bits[:, lasts] ^= 1
        return np.add.reduceat(bits.astype(np.int64) << self._bit_of[:, None], self._first_of, axis=0)
