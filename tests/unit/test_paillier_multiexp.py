"""Simultaneous exponentiation against Python's own pow, and the two representations under it."""

from __future__ import annotations

import secrets
from itertools import pairwise

import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.paillier.clumps import LARGEST_CLUMP, Clumps, best_clump
from hessian.paillier.comb import FixedBaseComb
from hessian.paillier.exponents import ExponentRow
from hessian.paillier.multiexp import SimultaneousPowers, recode, simultaneous_powers
from hessian.paillier.residues import SplitUnit, split_all, subset_products
from hessian.paillier.tables import LookUps, Table
from hessian.paillier.windows import LARGEST_WIDTH, Windows, best_width, non_adjacent_digits

PRIME = (1 << 127) - 1
OTHER_PRIME = (1 << 107) - 1
N = PRIME * OTHER_PRIME

units = st.integers(1, N * N - 1).filter(lambda x: x % PRIME and x % OTHER_PRIME)
exponents = st.one_of(st.integers(-(1 << 220), 1 << 220), st.integers(-3, 3), st.integers(0, 220).map(lambda k: (1 << k) - 1))


def plain_powers(bases: list[int], rows: list[list[int]]) -> list[int]:
    """The reference: Python's pow, one base at a time."""
    products = []
    for row in rows:
        product = 1
        for base, exponent in zip(bases, row, strict=True):
            product = product * pow(base, exponent, N * N) % (N * N)
        products.append(product)
    return products


def joined(low: mpz, tail: mpz) -> int:
    return int(low * (1 + tail * N) % (N * N))


def looked_up(look_ups: LookUps, table: Table) -> int:
    """The product that look-ups stand for, without Horner's rule."""
    product = 1
    for position, places in look_ups:
        for place in places:
            product = product * pow(joined(table.lows[place], table.tails[place]), 1 << position, N * N) % (N * N)
    return product


def packed(values: list[int], slot_bits: int) -> int:
    return sum(value << (slot_bits * slot) for slot, value in enumerate(values))


packed_exponents = st.lists(st.integers(-(1 << 20), 1 << 20), min_size=4, max_size=4).map(lambda values: packed(values, 58))


@settings(deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(0, 4))
def test_simultaneous_powers__any_signed_exponents__equals_the_product_of_powers(data: st.DataObject, outputs: int, count: int) -> None:
    bases = data.draw(st.lists(units, min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(exponents, min_size=count, max_size=count), min_size=outputs, max_size=outputs))
    assert simultaneous_powers(N, bases, rows) == plain_powers(bases, rows)


def test_simultaneous_powers__all_exponents_zero__is_one() -> None:
    assert simultaneous_powers(N, [5, 7], [[0, 0], [0, 1]]) == [1, 7]


@settings(deadline=None)
@given(st.data(), st.integers(1, 7), st.integers(1, 5))
def test_clumps__any_signed_exponents_and_clump_size__are_the_product_of_powers(data: st.DataObject, count: int, size: int) -> None:
    bases = data.draw(st.lists(units, min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(st.one_of(exponents, packed_exponents), min_size=count, max_size=count), min_size=1, max_size=3))
    clumps = Clumps([ExponentRow.of(row) for row in rows], size)
    table = clumps.table(split_all(bases, mpz(N)), mpz(N))
    assert [looked_up(clumps.look_ups(c), table) for c in range(len(rows))] == plain_powers(bases, rows)


@settings(deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(2, 6))
def test_windows__any_signed_exponents_and_width__are_the_product_of_powers(data: st.DataObject, count: int, width: int) -> None:
    bases = data.draw(st.lists(units, min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(st.one_of(exponents, packed_exponents), min_size=count, max_size=count), min_size=1, max_size=3))
    windows = Windows([ExponentRow.of(row) for row in rows], width)
    table = windows.table(split_all(bases, mpz(N)), mpz(N))
    assert [looked_up(windows.look_ups(c), table) for c in range(len(rows))] == plain_powers(bases, rows)


def test_simultaneous_powers__a_packed_matrix_over_many_bases__takes_clumps_and_is_exact() -> None:
    """The shape of a gradient step: many short signed entries of unlike size, some columns zero, most of the plaintext empty."""
    draw = np.random.default_rng(7)
    bases = [int(draw.integers(2, 1 << 60)) for _ in range(60)]
    matrix = [[int(entry) for entry in np.rint(draw.normal(size=60) * 2.0 ** draw.integers(0, 20, size=60))] for _ in range(60)]
    for row in matrix:
        row[11] = 0
    rows = [[packed([row[base] for row in block], 58) for base in range(60)] for block in (matrix[:35], matrix[35:])]
    assert isinstance(recode([ExponentRow.of(row) for row in rows]), Clumps)
    powers = SimultaneousPowers(N, bases, rows)
    assert [powers.output(1), powers.output(0)] == plain_powers(bases, rows)[::-1]


@given(st.lists(st.one_of(exponents, packed_exponents), min_size=1, max_size=5))
def test_exponent_row__any_numbers__have_their_digits_and_islands_counted(numbers: list[int]) -> None:
    row = ExponentRow.of(numbers)
    assert list(row.digits) == [len(list(non_adjacent_digits(mpz(abs(number)), 2))) for number in numbers]
    assert all(later[0] > earlier[1] for earlier, later in pairwise(row.islands))
    for number in numbers:
        for position, _ in non_adjacent_digits(mpz(abs(number)), 2):
            assert any(first <= position < sign for first, sign in row.islands)


@given(st.integers(0, 1 << 300), st.integers(2, 9))
def test_non_adjacent_digits__any_number__are_odd_small_sparse_and_add_up(number: int, width: int) -> None:
    digits = list(non_adjacent_digits(mpz(number), width))
    assert sum(digit << position for position, digit in digits) == number
    assert all(digit % 2 == 1 and abs(digit) < 1 << (width - 1) for _, digit in digits)
    positions = [position for position, _ in digits]
    assert all(later - earlier >= width for earlier, later in pairwise(positions))


def test_best_width_and_clump__more_outputs_over_the_same_bases__grow() -> None:
    row = ExponentRow.of([secrets.randbits(2000) for _ in range(12)])
    small = ExponentRow.of([5] * 12)
    for best, largest in ((best_width, LARGEST_WIDTH), (best_clump, LARGEST_CLUMP)):
        sizes = [best(rows)[1] for rows in ([small], [row], [row] * 100)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2] <= largest


def test_recode__one_base_and_one_long_exponent__takes_windows() -> None:
    """A randomiser's shape: nothing to share a table with."""
    assert isinstance(recode([ExponentRow.of([secrets.randbits(2048)])]), Windows)


@given(units, units)
def test_split_unit__product_and_reciprocal__are_those_of_the_numbers(x: int, y: int) -> None:
    n = mpz(N)
    first, second = split_all([x, y], n)
    product, reciprocal = first.times(second, n), first.reciprocal(n)
    assert joined(first.low, first.tail) == x
    assert joined(product.low, product.tail) == x * y % N**2
    assert joined(reciprocal.low, reciprocal.tail) == pow(x, -1, N**2)
    assert product.low * product.inverse % n == 1
    assert reciprocal.low * reciprocal.inverse % n == 1


def test_split_all__a_number_that_is_no_unit__is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        split_all([5, 3 * PRIME, 7], mpz(N))
    assert split_all([], mpz(N)) == []


@settings(deadline=None)
@given(st.lists(units, max_size=4))
def test_subset_products__any_units__multiply_the_subset_of_each_index(numbers: list[int]) -> None:
    lows, inverses, tails = subset_products(split_all(numbers, mpz(N)), mpz(N))
    assert len(lows) == 1 << len(numbers)
    for index, (low, inverse, tail) in enumerate(zip(lows, inverses, tails, strict=True)):
        subset = [number for bit, number in enumerate(numbers) if index >> bit & 1]
        assert joined(low, tail) == plain_powers(subset, [[1] * len(subset)])[0]
        assert SplitUnit(low, inverse, tail).times(SplitUnit(inverse, low, mpz(0)), mpz(N)).low == 1


COMB = FixedBaseComb(mpz(3), mpz(PRIME), 127)


@given(st.one_of(st.integers(0, (1 << 127) - 1), st.sampled_from([0, 1, (1 << 127) - 1])))
def test_comb__any_exponent__equals_pow(exponent: int) -> None:
    assert COMB.power(exponent) == pow(3, exponent, PRIME**2)


@pytest.mark.parametrize("exponent", [-1, 1 << 128], ids=["negative", "too long"])
def test_comb__exponent_out_of_range__is_an_error(exponent: int) -> None:
    with pytest.raises(OverflowError):
        COMB.power(exponent)
