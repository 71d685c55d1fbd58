"""Powers of one fixed base modulo p² from a table: the lender's randomisers (docs/kernel.md).

After Lim and Lee, "More flexible exponentiation with precomputation" (CRYPTO 1994). The exponent's bits are written as 8 rows of a bits,
so that a column is one byte; the columns fall into 8 blocks of b = a/8. Block k has a table with the product of base^(2^(row·a + k·b)) for
every subset of rows. Walking all blocks together takes b squarings and a multiplications, where a plain power takes 8a squarings. The
entries are kept in halves (`hessian.paillier.residues`).

Which entries are read depends on the exponent: whoever shares the processor's cache with the lender is not kept out by this.
"""

from __future__ import annotations

import gmpy2
import numpy as np
from gmpy2 import mpz

from hessian.paillier.residues import split_all, subset_products

_ROWS = 8
_BLOCKS = 8


class FixedBaseComb:
    """base^x modulo p² for 0 ≤ x < 2^exponent_bits; base is a unit modulo p²."""

    def __init__(self, base: mpz, p: mpz, exponent_bits: int) -> None:
        self._p, self._square = p, p * p
        self._columns = -(-exponent_bits // (_ROWS * _BLOCKS)) * _BLOCKS
        self._steps = self._columns // _BLOCKS
        powers = [mpz(base)]
        while len(powers) < _ROWS * _BLOCKS:
            powers.append(gmpy2.powmod(powers[-1], 1 << self._steps, self._square))
        self._tables = [self._subset_products(powers[block::_BLOCKS]) for block in range(_BLOCKS)]

    def _subset_products(self, factors: list[mpz]) -> list[tuple[mpz, mpz]]:
        """(low, tail) of the product of the factors whose bit is set in the index."""
        lows, _, tails = subset_products(split_all(factors, self._p), self._p)
        return list(zip(lows, tails, strict=True))

    def power(self, exponent: int) -> mpz:
        """base^exponent modulo p². Raises OverflowError for an exponent that is negative or too long."""
        bits = np.unpackbits(np.frombuffer(exponent.to_bytes(self._columns * _ROWS // 8, "big"), dtype=np.uint8))
        digits = np.packbits(bits.reshape(_ROWS, self._columns), axis=0)[0].tolist()  # the highest column first
        product, tail = mpz(1), mpz(0)
        for step in range(self._steps):
            entries = [table[digit] for table, digit in zip(reversed(self._tables), digits[step :: self._steps], strict=True)]
            product = product * product % self._square
            for first, second in zip(entries[::2], entries[1::2], strict=True):
                product = product * (first[0] * second[0]) % self._square
            tail = 2 * tail + sum(entry[1] for entry in entries)
        return product * (1 + tail % self._p * self._p) % self._square
