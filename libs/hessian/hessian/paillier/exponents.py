"""What is known of exponents before they are recoded: how many digits they have, and where (docs/kernel.md).

The width-2 non-adjacent form of x has a digit where x and 3x differ, one place lower (Reitwiesner, "Binary arithmetic", 1960): two
operations on a long number tell what `windows` and `clumps` will cost, without recoding anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz


@dataclass(frozen=True, slots=True, repr=False)
class ExponentRow:
    """One output's d exponents, signed.

    `digits`: how many non-zero digits each has in width-2 non-adjacent form; a number of b bits has about (b + 1)/3. `islands`: the
    stretches of bit positions in which some exponent has a digit, the lowest first, each as (first position, position of the sign).
    Column-packed exponents have one island per slot. A number whose highest digit is at position k lies between −2^(k+1) and 2^(k+1), so
    that position k + 1 is free for the sign.
    """

    numbers: tuple[mpz, ...]
    digits: tuple[int, ...]
    islands: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, exponents: Sequence[int]) -> ExponentRow:
        """Look at d integers of any size and sign."""
        numbers = tuple(mpz(exponent) for exponent in exponents)
        positions = [(abs(x) ^ (3 * abs(x))) >> 1 for x in numbers]
        union = mpz(0)
        for used in positions:
            union |= used
        return cls(numbers, tuple(used.bit_count() for used in positions), tuple(_stretches(union | union << 1)))


def _stretches(mask: mpz) -> list[tuple[int, int]]:
    """(first, last) position of each run of ones, the lowest first."""
    stretches = []
    first = mask.bit_scan1()
    while first is not None:
        end = mask.bit_scan0(first)
        stretches.append((first, end - 1))
        first = mask.bit_scan1(end)
    return stretches
