"""One scale, exact integers, centred residues."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hessian.paillier.fixed_point import EncodingRefused, centre, decode, encode

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, st.integers(0, 80))
def test_encode__any_float__is_the_nearest_integer(value: float, bits: int) -> None:
    [encoded] = encode([value], bits)
    assert abs(Fraction(value) * 2**bits - encoded) <= Fraction(1, 2)
    assert encoded == round(Fraction(value) * 2**bits)


@given(st.integers(-(2**52), 2**52), st.integers(0, 80))
def test_decode__what_a_float_can_hold__comes_back_exactly(number: int, bits: int) -> None:
    assert encode(decode([number], bits), bits) == [number]


@given(st.integers(), st.integers(0, 80))
def test_decode__any_integer__is_correctly_rounded(number: int, bits: int) -> None:
    assert decode([number], bits) == [float(Fraction(number, 2**bits))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_encode__not_finite__is_refused(value: float) -> None:
    with pytest.raises(EncodingRefused):
        encode([0.0, value], 20)


def test_encode__halves__go_to_the_even_neighbour() -> None:
    assert encode([0.5, 1.5, -0.5, -1.5, 2.5], 0) == [0, 2, 0, -2, 2]


def test_encode__numpy_array__gives_python_integers() -> None:
    encoded = encode(np.array([1.25, -3.0]), 2)
    assert encoded == [5, -12]
    assert all(type(number) is int for number in encoded)


def test_decode__beyond_float64__is_refused() -> None:
    with pytest.raises(EncodingRefused):
        decode([1 << 2000], 20)


@given(st.integers(1, 10**40).map(lambda k: 2 * k + 1), st.data())
def test_centre__any_odd_modulus__inverts_the_reduction(n: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(-(n // 2), n // 2))
    assert centre(number % n, n) == number


@pytest.mark.parametrize("residue", [-1, 15, 16])
def test_centre__not_a_residue__is_refused(residue: int) -> None:
    with pytest.raises(EncodingRefused):
        centre(residue, 15)
