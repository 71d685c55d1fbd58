"""Fixed point: real numbers as integers at one scale 2^−bits per artifact kind, and residues modulo n as signed integers (PROTOCOL §2).

The scale is public and never depends on a value; floating exponents per number would tell its magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from hessian.errors import Malformed


class EncodingRefused(Malformed):
    """A number has no fixed-point form."""


def encode(values: Iterable[float], bits: int) -> list[int]:
    """Each of k values times 2^bits, rounded to the nearest integer (ties to even), exactly: integers at 2^-bits.

    Raises EncodingRefused for NaN and ±∞. PROTOCOL §2.
    """
    encoded = []
    for value in values:
        number = float(value)
        if not math.isfinite(number):
            raise EncodingRefused("NaN and infinity have no fixed-point form")
        numerator, denominator = number.as_integer_ratio()
        encoded.append(_round_half_even(numerator << bits, denominator))
    return encoded


def _round_half_even(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    return quotient + (2 * remainder > denominator or (2 * remainder == denominator and quotient % 2 == 1))


def decode(values: Iterable[int], bits: int) -> list[float]:
    """Each of k integers at 2^-bits as the nearest float64. Raises EncodingRefused when one is beyond float64's range."""
    try:
        return [int(value) / (1 << bits) for value in values]
    except OverflowError as error:
        raise EncodingRefused("a decoded number is beyond the range of floating point") from error


def centre(residue: int, n: int) -> int:
    """The representative of a residue in (−n/2, n/2), n odd: the centred lift. Raises EncodingRefused outside [0, n)."""
    if not 0 <= residue < n:
        raise EncodingRefused("a residue lies between 0 and the modulus")
    return residue if residue <= n // 2 else residue - n
