"""Exact samples of the discrete Gaussian, from coin flips and integers alone.

Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (NeurIPS 2020), algorithms 1–3: P(x) ∝ exp(−x²/(2σ²)) over the
integers for a rational σ². No floating point anywhere, so that no value is impossible, or a little too likely, as a rounded logarithm
makes it (Mironov, CCS 2012). The randomness is the operating system's. The time a sample takes depends on its value: this runs on the
owner's machine, in a job's own process, and nobody outside sees when it began.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from fractions import Fraction
from math import isqrt

_BLOCK_BYTES = 1 << 12


class Coins:
    """Uniform numbers from random bytes, which are fetched a block at a time."""

    def __init__(self, source: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """`source` gives as many random bytes as it is asked for."""
        self._source = source
        self._pool = 0
        self._left = 0

    def bits(self, count: int) -> int:
        """`count` uniform bits as a number."""
        while self._left < count:
            self._pool |= int.from_bytes(self._source(_BLOCK_BYTES), "big") << self._left
            self._left += 8 * _BLOCK_BYTES
        taken = self._pool & ((1 << count) - 1)
        self._pool >>= count
        self._left -= count
        return taken

    def below(self, end: int) -> int:
        """Uniform in [0, end)."""
        width = (end - 1).bit_length()
        while (drawn := self.bits(width)) >= end:
            pass
        return drawn

    def happens(self, numerator: int, denominator: int) -> bool:
        """True with probability numerator/denominator ≤ 1."""
        return self.below(denominator) < numerator

    def survives(self, numerator: int, denominator: int) -> bool:
        """True with probability exp(−numerator/denominator), for any ratio ≥ 0 (CKS, algorithm 1)."""
        whole, rest = divmod(numerator, denominator)
        return all(self._survives_fraction(1, 1) for _ in range(whole)) and self._survives_fraction(rest, denominator)

    def _survives_fraction(self, numerator: int, denominator: int) -> bool:
        """A ratio γ ≤ 1: the first k with a failure at γ/k is odd with probability exp(−γ)."""
        k = 1
        while self.happens(numerator, denominator * k):
            k += 1
        return k % 2 == 1


def discrete_laplace(scale: int, coins: Coins) -> int:
    """P(x) ∝ exp(−|x|/scale) over the integers (CKS, algorithm 2)."""
    while True:
        remainder = coins.below(scale)
        if not coins.survives(remainder, scale):
            continue
        whole = 0
        while coins.survives(1, 1):
            whole += 1
        magnitude = remainder + scale * whole
        negative = coins.bits(1)
        if magnitude or not negative:  # zero would have two ways to come up
            return -magnitude if negative else magnitude


def discrete_gaussian(variance: Fraction, coins: Coins) -> int:
    """P(x) ∝ exp(−x²/(2·variance)) over the integers, for a variance parameter above 0 (CKS, algorithm 3)."""
    a, b = variance.numerator, variance.denominator
    scale = isqrt(a // b) + 1
    while True:
        proposal = discrete_laplace(scale, coins)
        # (|x| − σ²/t)² / (2σ²) with σ² = a/b and t = scale
        if coins.survives((abs(proposal) * scale * b - a) ** 2, 2 * a * b * scale**2):
            return proposal
