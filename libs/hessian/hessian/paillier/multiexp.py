"""Simultaneous exponentiation: Π_j base_j ^ exponent_cj modulo n², for many outputs c over the same bases (docs/kernel.md).

One table serves every output and, because the exponents are column-packed, every slot; Horner's rule walks the bit positions from the top
and squares once for all bases. Two recodings say which table entries are multiplied in where: `windows` (Straus) for few outputs or bases,
`clumps` (Pippenger) for many; a cost formula picks one, and its window or clump size. Table entries and accumulator are kept in halves
(`hessian.paillier.residues`), so no number of the size of n² is ever multiplied. That also beats GMP's `powmod` on the long runs of
squarings between two slots, so there is no second path for them.

The running time depends on the exponents: this runs on the machine that owns them, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmpy2 import mpz

from hessian.paillier.clumps import Clumps, best_clump
from hessian.paillier.exponents import ExponentRow
from hessian.paillier.residues import split_all
from hessian.paillier.tables import LookUps, Table
from hessian.paillier.windows import Windows, best_width


def simultaneous_powers(n: int, bases: Sequence[int], exponents: Sequence[Sequence[int]]) -> list[int]:
    """Π_j bases[j] ^ exponents[c][j] modulo n², for every c; exponents are signed and of any size.

    bases: d units modulo n² (checked by the caller: 0 < base < n², coprime to n). exponents: C rows of d integers. Returns C numbers in
    [0, n²). Raises ZeroDivisionError for a base that is no unit. Straus 1964, Pippenger 1976: see `windows` and `clumps`.
    """
    powers = SimultaneousPowers(n, bases, exponents)
    return [powers.output(c) for c in range(len(exponents))]


class SimultaneousPowers:
    """The shared part of `simultaneous_powers`, made once: the recoding and its table. Outputs can then be computed one by one."""

    def __init__(self, n: int, bases: Sequence[int], exponents: Sequence[Sequence[int]]) -> None:
        """As for `simultaneous_powers`. Raises ZeroDivisionError for a base that is no unit."""
        self._n = mpz(n)
        self._recoding = recode([ExponentRow.of(row) for row in exponents])
        self._table = self._recoding.table(split_all(bases, self._n), self._n)

    def output(self, c: int) -> int:
        """The product for row c of the exponents, in [0, n²)."""
        return _horner(self._recoding.look_ups(c), self._table, self._n)


def recode(rows: Sequence[ExponentRow]) -> Windows | Clumps:
    """The recoding with the least estimated work for these exponents."""
    if not rows or not rows[0].numbers:
        return Windows(rows, 2)
    (by_windows, width), (by_clumps, size) = best_width(rows), best_clump(rows)
    return Windows(rows, width) if by_windows <= by_clumps else Clumps(rows, size)


def _horner(look_ups: LookUps, table: Table, n: mpz) -> int:
    """Horner's rule over the positions. The accumulator is (low + high·n)·(1 + tail·n); only the tail waits for its reduction."""
    low, high, tail = mpz(1), mpz(0), mpz(0)
    lows, tails = table.lows, table.tails
    before = look_ups[0][0] if look_ups else 0
    for position, places in [*look_ups, (0, [])]:
        for _ in range(before - position):
            carry, square = divmod(low * low, n)
            high = (2 * low * high + carry) % n
            low = square
        tail = (tail << (before - position)) + sum([tails[place] for place in places])
        before = position
        factors = [lows[place] for place in places]
        if len(factors) % 2:
            factor = factors.pop()
            carry, product = divmod(low * factor, n)
            high = (high * factor + carry) % n
            low = product
        pairs = iter(factors)
        for first, second in zip(pairs, pairs, strict=True):
            pair_high, pair_low = divmod(first * second, n)
            carry, product = divmod(low * pair_low, n)
            high = (high * pair_low + low * pair_high + carry) % n
            low = product
    return int((low + high * n) * (1 + tail % n * n) % (n * n))
