"""Simultaneous exponentiation: Π_j base_j ^ exponent_cj modulo n², for many outputs c over the same bases (docs/kernel.md).

One table of odd powers and their inverses per base serves every output and, because the exponents are column-packed, every slot. The
exponents are recoded into width-w non-adjacent digits; Horner's rule walks the bit positions from the top and squares once for all bases.
Bases and accumulator are kept in halves (`hessian.paillier.residues`), so no number of the size of n² is ever multiplied. That also beats
GMP's `powmod` on the long runs of squarings between two slots, so there is no second path for them.

The running time depends on the exponents: this runs on the machine that owns them, in a process of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import gmpy2
from gmpy2 import mpz

from hessian.paillier.residues import SplitUnit, split

LARGEST_WIDTH = 8
"""Bounds the tables: 64 odd powers and as many inverses, about 0.1 MB per base at 3072 bits."""

_TABLE_COST = 2.3
"""Price of one odd power with its inverse, in multiplications of the accumulator by a table entry (measured)."""


def simultaneous_powers(n: int, bases: Sequence[int], exponents: Sequence[Sequence[int]]) -> list[int]:
    """Π_j bases[j] ^ exponents[c][j] modulo n², for every c; exponents are signed and of any size.

    bases: d units modulo n² (checked by the caller: 0 < base < n², coprime to n). exponents: C rows of d integers. Returns C numbers.
    """
    modulus = mpz(n)
    rows = [[mpz(exponent) for exponent in row] for row in exponents]
    width = window_width(rows)
    tables = [_signed_odd_powers(split(base, modulus), width, modulus) for base in bases]
    return [_evaluate(_digits_by_position(row, tables, width), modulus) for row in rows]


def window_width(rows: Sequence[Sequence[mpz]]) -> int:
    """The digit width w with the least estimated work.

    A number whose (width-2) non-adjacent form has k digits has about 3k/(w + 1) digits of width w, and a base's table holds 2^(w−2) odd
    powers. k is exact and cheap: it is the number of bits in which x and 3x differ.
    """
    bases = max((len(row) for row in rows), default=0)
    narrow_digits = sum(gmpy2.popcount(abs(x) ^ (3 * abs(x))) for x in chain.from_iterable(rows))
    return min(
        range(2, LARGEST_WIDTH + 1),
        key=lambda width: 3 * narrow_digits / (width + 1) + _TABLE_COST * bases * 2 ** (width - 2),
    )


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


def _signed_odd_powers(base: SplitUnit, width: int, n: mpz) -> list[tuple[mpz, mpz]]:
    """(low, tail) of base^k at index k and of base^−k at index −k, for odd k < 2^(w−1); the other places are never read."""
    size = 1 << width
    table = [(mpz(1), mpz(0))] * size
    square, power = base.times(base, n), base
    for k in range(1, size // 2, 2):
        inverse = power.reciprocal(n)
        table[k], table[-k] = (power.low, power.tail), (inverse.low, inverse.tail)
        power = power.times(square, n)
    return table


def _digits_by_position(exponents: Sequence[mpz], tables: Sequence[list[tuple[mpz, mpz]]], width: int) -> dict[int, list[tuple[mpz, mpz]]]:
    """For every bit position, the table entries that are multiplied in there."""
    entries: defaultdict[int, list[tuple[mpz, mpz]]] = defaultdict(list)
    for exponent, table in zip(exponents, tables, strict=True):
        sign = 1 if exponent > 0 else -1
        for position, digit in non_adjacent_digits(abs(exponent), width):
            entries[position].append(table[sign * digit])
    return entries


def _evaluate(entries: dict[int, list[tuple[mpz, mpz]]], n: mpz) -> int:
    """Horner's rule over the positions. The accumulator is (low + high·n)·(1 + tail·n)."""
    low, high, tail = mpz(1), mpz(0), mpz(0)
    positions = sorted(entries, reverse=True)
    for position, following in zip(positions, [*positions[1:], 0], strict=False):
        here = entries[position]
        tail += sum(entry[1] for entry in here)
        lows = [entry[0] for entry in here]
        for first, second in zip(lows[::2], lows[1::2], strict=False):
            pair_high, pair_low = divmod(first * second, n)
            carry, product = divmod(low * pair_low, n)
            high = (high * pair_low + low * pair_high + carry) % n
            low = product
        if len(lows) % 2:
            carry, product = divmod(low * lows[-1], n)
            high = (high * lows[-1] + carry) % n
            low = product
        for _ in range(position - following):
            carry, square = divmod(low * low, n)
            high = (2 * low * high + carry) % n
            low = square
        tail = (tail << (position - following)) % n
    return int((low + high * n) * (1 + tail * n) % (n * n))
