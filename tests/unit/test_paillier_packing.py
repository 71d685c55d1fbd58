"""Signed slots: exact at the bound's edge, an error one step beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hessian.errors import Refused, SlotOverflow
from hessian.paillier.packing import AggregateUndecodable, LayoutRefused, SlotLayout, pack, pack_columns, slot_layout, unpack

bounds = st.integers(1, 1 << 60)
key_bits = st.integers(128, 4096)


def edge_values(bound: int) -> st.SearchStrategy[int]:
    return st.one_of(st.sampled_from([-bound, bound, 1 - bound, bound - 1, -1, 0, 1]), st.integers(-bound, bound))


@given(key_bits, bounds)
def test_slot_layout__any_bound__follows_the_protocol_and_fits_every_modulus_of_that_length(bits: int, bound: int) -> None:
    layout = slot_layout(bits, bound=bound)
    assert layout == SlotLayout(bound.bit_length() + 2, (bits - 2) // (bound.bit_length() + 2), bound)
    smallest_modulus = (1 << (bits - 1)) + 1
    [fullest] = pack([bound] * layout.slots, layout)
    assert 2 * fullest < smallest_modulus
    assert pack([-bound] * layout.slots, layout) == [-fullest]


@given(st.data(), bounds)
def test_unpack__values_up_to_the_bound__come_back_exactly(data: st.DataObject, bound: int) -> None:
    layout = slot_layout(256, bound=bound)
    values = data.draw(st.lists(edge_values(bound), max_size=3 * layout.slots))
    assert unpack(pack(values, layout), layout, len(values)) == values


@given(st.data(), st.integers(2, 1 << 60), st.integers(2, 6))
def test_unpack__sum_of_members_within_the_bound__is_the_sum_slot_by_slot(data: st.DataObject, bound: int, members: int) -> None:
    """Borrows of negative slots cancel in the sum: only the totals matter."""
    layout = slot_layout(256, bound=bound)
    totals = data.draw(st.lists(edge_values(bound), min_size=1, max_size=2 * layout.slots))
    rows = [[data.draw(st.integers(-(bound // 2), bound // 2)) for _ in totals] for _ in range(members - 1)]
    raw = [total - sum(column) for total, column in zip(totals, zip(*rows, strict=True), strict=True)]
    wide = SlotLayout(layout.slot_bits, layout.slots, bound * (members + 1))  # one member alone may be larger than the sum
    packed = [pack(row, wide) for row in [*rows, raw]]
    assert unpack([sum(column) for column in zip(*packed, strict=True)], layout, len(totals)) == totals


@given(st.data(), bounds, st.sampled_from([-1, 1]))
def test_pack__one_beyond_the_bound__is_an_error(data: st.DataObject, bound: int, sign: int) -> None:
    layout = slot_layout(256, bound=bound)
    values = data.draw(st.lists(edge_values(bound), min_size=1, max_size=layout.slots))
    values[data.draw(st.integers(0, len(values) - 1))] = sign * (bound + 1)
    with pytest.raises(SlotOverflow):
        pack(values, layout)


@given(st.data(), bounds, st.sampled_from([-1, 1]))
def test_unpack__a_slot_one_beyond_the_bound__is_an_error_and_never_a_number(data: st.DataObject, bound: int, sign: int) -> None:
    layout = slot_layout(256, bound=bound)
    values = data.draw(st.lists(edge_values(bound), min_size=1, max_size=layout.slots))
    slot = data.draw(st.integers(0, len(values) - 1))
    values[slot] = sign * bound
    [packed] = pack(values, layout)
    with pytest.raises(AggregateUndecodable):
        unpack([packed + sign * (1 << (slot * layout.slot_bits))], layout, len(values))


def test_unpack__something_above_the_last_slot__is_an_error() -> None:
    layout = slot_layout(256, bound=1000)
    [packed] = pack([1, -2, 3], layout)
    with pytest.raises(AggregateUndecodable, match="last slot"):
        unpack([packed + (1 << (3 * layout.slot_bits))], layout, 3)
    assert unpack([packed], layout, 3) == [1, -2, 3]


@pytest.mark.parametrize("plaintexts", [[], [0, 0], [0, 0, 0]])
def test_unpack__wrong_number_of_plaintexts__is_an_error(plaintexts: list[int]) -> None:
    with pytest.raises(AggregateUndecodable):
        unpack(plaintexts, slot_layout(256, bound=1000), 5)


def test_undecodable_aggregate__family__does_not_stop_a_service() -> None:
    assert issubclass(AggregateUndecodable, Refused)


@given(st.data(), st.integers(1, 1 << 20), st.integers(1, 9), st.integers(1, 5))
def test_pack_columns__matrix_times_weights__is_the_packed_product(data: st.DataObject, entry: int, rows: int, columns: int) -> None:
    matrix = data.draw(st.lists(st.lists(st.integers(-entry, entry), min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    weights = data.draw(st.lists(st.integers(-(1 << 30), 1 << 30), min_size=columns, max_size=columns))
    products = [sum(a * w for a, w in zip(row, weights, strict=True)) for row in matrix]
    layout = slot_layout(256, bound=columns * entry << 30)
    multipliers = pack_columns(matrix, layout)
    assert [sum(p * w for p, w in zip(row, weights, strict=True)) for row in multipliers] == pack(products, layout)


def test_pack_columns__numpy_matrix__gives_python_integers() -> None:
    [row] = pack_columns(np.array([[1, -2], [3, 4]], dtype=np.int64), slot_layout(256, bound=1 << 50))
    assert row == [1 + (3 << 53), -2 + (4 << 53)]
    assert all(type(multiplier) is int for multiplier in row)


def test_pack_columns__entry_beyond_the_bound__is_an_error() -> None:
    with pytest.raises(SlotOverflow):
        pack_columns([[1, 2], [3, 101]], slot_layout(256, bound=100))


def test_pack_columns__ragged_matrix__is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pack_columns([[1, 2], [3]], slot_layout(256, bound=100))


def test_pack__float__is_an_error_and_not_rounded() -> None:
    with pytest.raises(TypeError):
        pack([1.5], slot_layout(256, bound=100))  # type: ignore[list-item]  # the point of the test


@pytest.mark.parametrize(
    ("bits", "bound"),
    [(256, 0), (256, -5), (2048, 1 << 2044), (2048, 1 << 100_000)],
    ids=["zero", "negative", "one bit too wide", "absurd"],
)
def test_slot_layout__bounds_that_do_not_fit_the_key__are_refused(bits: int, bound: int) -> None:
    with pytest.raises(LayoutRefused):
        slot_layout(bits, bound=bound)
