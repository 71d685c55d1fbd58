"""Simultaneous exponentiation against Python's own pow, and the two representations under it."""

from __future__ import annotations

import secrets
from itertools import pairwise

import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.paillier.comb import FixedBaseComb
from hessian.paillier.multiexp import LARGEST_WIDTH, non_adjacent_digits, simultaneous_powers, window_width
from hessian.paillier.residues import split

PRIME = (1 << 127) - 1
OTHER_PRIME = (1 << 107) - 1
N = PRIME * OTHER_PRIME

units = st.integers(1, N * N - 1).filter(lambda x: x % PRIME and x % OTHER_PRIME)
exponents = st.one_of(st.integers(-(1 << 220), 1 << 220), st.integers(-3, 3), st.integers(0, 220).map(lambda k: (1 << k) - 1))


@settings(deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(0, 4))
def test_simultaneous_powers__any_signed_exponents__equals_the_product_of_powers(data: st.DataObject, outputs: int, count: int) -> None:
    bases = data.draw(st.lists(units, min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(exponents, min_size=count, max_size=count), min_size=outputs, max_size=outputs))
    expected = []
    for row in rows:
        product = 1
        for base, exponent in zip(bases, row, strict=True):
            product = product * pow(base, exponent, N * N) % (N * N)
        expected.append(product)
    assert simultaneous_powers(N, bases, rows) == expected


def test_simultaneous_powers__all_exponents_zero__is_one() -> None:
    assert simultaneous_powers(N, [5, 7], [[0, 0], [0, 1]]) == [1, 7]


@given(st.integers(0, 1 << 300), st.integers(2, 9))
def test_non_adjacent_digits__any_number__are_odd_small_sparse_and_add_up(number: int, width: int) -> None:
    digits = list(non_adjacent_digits(mpz(number), width))
    assert sum(digit << position for position, digit in digits) == number
    assert all(digit % 2 == 1 and abs(digit) < 1 << (width - 1) for _, digit in digits)
    positions = [position for position, _ in digits]
    assert all(later - earlier >= width for earlier, later in pairwise(positions))


def test_window_width__more_outputs_over_the_same_bases__widens() -> None:
    row = [mpz(secrets.randbits(2000)) for _ in range(4)]
    narrow, wide = window_width([[mpz(5)] * 4]), window_width([row] * 100)
    assert 2 <= narrow < window_width([row]) <= wide <= LARGEST_WIDTH


@given(units, units)
def test_split_unit__product_and_reciprocal__are_those_of_the_numbers(x: int, y: int) -> None:
    n = mpz(N)

    def joined(low: mpz, tail: mpz) -> int:
        return int(low * (1 + tail * n) % (n * n))

    first, second = split(x, n), split(y, n)
    product, reciprocal = first.times(second, n), first.reciprocal(n)
    assert joined(first.low, first.tail) == x
    assert joined(product.low, product.tail) == x * y % N**2
    assert joined(reciprocal.low, reciprocal.tail) == pow(x, -1, N**2)
    assert product.low * product.inverse % n == 1
    assert reciprocal.low * reciprocal.inverse % n == 1


COMB = FixedBaseComb(mpz(3), mpz(PRIME), 127)


@given(st.one_of(st.integers(0, (1 << 127) - 1), st.sampled_from([0, 1, (1 << 127) - 1])))
def test_comb__any_exponent__equals_pow(exponent: int) -> None:
    assert COMB.power(exponent) == pow(3, exponent, PRIME**2)


@pytest.mark.parametrize("exponent", [-1, 1 << 128], ids=["negative", "too long"])
def test_comb__exponent_out_of_range__is_an_error(exponent: int) -> None:
    with pytest.raises(OverflowError):
        COMB.power(exponent)
