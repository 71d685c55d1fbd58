"""Many signed numbers in one plaintext (PROTOCOL §3).

A plaintext is Σ_r value_r·2^(s·r): slot r is s bits wide and a negative value borrows from the slots above it. With |value| ≤ L and
s = bitlen(L) + 2, no sum that respects the bound L reaches a neighbour, and ⌊(|n| − 2)/s⌋ slots stay clear of ±n/2. L is public and
comes from the manifest's bounds; a value beyond it is an error on both sides and never a wrong number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import index
from typing import TypeVar

from hessian.errors import Malformed, SlotOverflow

T = TypeVar("T")


class LayoutRefused(Malformed):
    """The fixed-point bounds do not fit the key."""


class AggregateUndecodable(Malformed):
    """The decrypted aggregate is not a sum of values within the bounds: some member's contribution was no honest gradient.

    It is content, made by others: the lender reports such a round as no improvement and goes on with unchanged weights.
    """


@dataclass(frozen=True)
class SlotLayout:
    """How values lie in a plaintext: `slots` of `slot_bits` bits, each holding a value in [−bound, bound]."""

    slot_bits: int
    slots: int
    bound: int

    def ciphertexts(self, count: int) -> int:
        """How many plaintexts `count` values take."""
        return -(-count // self.slots)


def slot_layout(key_bits: int, *, bound: int) -> SlotLayout:
    """The layout for sums of absolute value at most `bound` (L of PROTOCOL §3) under a modulus of `key_bits` bits.

    Raises LayoutRefused when the bound is not positive, or not even one slot fits the key.
    """
    if bound < 1:
        raise LayoutRefused("a slot's bound is a positive integer")
    slot_bits = bound.bit_length() + 2
    slots = (key_bits - 2) // slot_bits
    if slots < 1:
        raise LayoutRefused(f"a slot of {slot_bits} bits does not fit a key of {key_bits} bits")
    return SlotLayout(slot_bits=slot_bits, slots=slots, bound=bound)


def pack(values: Iterable[int], layout: SlotLayout) -> list[int]:
    """⌈k/slots⌉ signed plaintexts holding k values in order, the last partly filled. Raises SlotOverflow for a value beyond the bound."""
    return [_pack_slots(group, layout) for group in _groups(values, layout.slots)]


def pack_columns(matrix: Iterable[Sequence[int]], layout: SlotLayout) -> list[list[int]]:
    """The multipliers P[c][j] = Σ_r matrix[c·slots + r][j]·2^(s·r) of a matrix with one row per output.

    matrix: m rows of d integers; returns ⌈m/slots⌉ rows of d. Column j then multiplies every output of weight j at once. The matrix times
    any weights the bound was made for stays within it, so its entries do too. Raises SlotOverflow for an entry beyond the bound;
    ValueError when rows differ in length.
    """
    return [[_pack_slots(column, layout) for column in zip(*rows, strict=True)] for rows in _groups(matrix, layout.slots)]


def unpack(plaintexts: Sequence[int], layout: SlotLayout, count: int) -> list[int]:
    """The first `count` slot values of centred plaintexts (the inverse of `pack`).

    Raises AggregateUndecodable when a slot's value is beyond the bound, when something is left above the last slot, or when the number
    of plaintexts is not what `count` values take.
    """
    if len(plaintexts) != layout.ciphertexts(count):
        raise AggregateUndecodable(f"{count} values take {layout.ciphertexts(count)} plaintexts, there are {len(plaintexts)}")
    values: list[int] = []
    for plaintext in plaintexts:
        values.extend(_unpack_slots(plaintext, layout, min(layout.slots, count - len(values))))
    return values


def _pack_slots(values: Sequence[int], layout: SlotLayout) -> int:
    packed = 0
    for value in reversed(values):
        number = index(value)
        if abs(number) > layout.bound:
            raise SlotOverflow("a value to be packed is beyond the slot's bound")
        packed = (packed << layout.slot_bits) + number
    return packed


def _unpack_slots(plaintext: int, layout: SlotLayout, count: int) -> Iterator[int]:
    full, half = 1 << layout.slot_bits, 1 << (layout.slot_bits - 1)
    rest = plaintext
    for _ in range(count):
        value = (rest + half) % full - half
        if abs(value) > layout.bound:
            raise AggregateUndecodable("a slot of the aggregate holds a value beyond its bound")
        yield value
        rest = (rest - value) >> layout.slot_bits
    if rest != 0:
        raise AggregateUndecodable("the aggregate reaches beyond its last slot")


def _groups(values: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(values)
    while group := list(islice(remaining, size)):
        yield group
