"""Canonical DAG-CBOR: one value, one encoding; everything else is refused, quickly."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import dag_cbor
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hessian.artifacts.codec import LARGEST_ARTIFACT, ArtifactRefused, decode, decode_artifact, encode, encode_artifact
from hessian.learning.plain import Fields, Plain, ShapeRefused

plain: st.SearchStrategy[Plain] = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**64), 2**64 - 1),
        st.binary(max_size=300),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(plain)
@settings(deadline=None)
def test_encode__any_value__equals_the_reference_encoder_and_reads_back(value: Plain) -> None:
    data = encode(value)

    assert data == dag_cbor.encode(value)  # type: ignore[arg-type]  # its type knows list and dict only
    assert decode(data) == value


@given(st.binary(max_size=60))
@example(b"\x18\x17")
@example(b"\xa2\x61b\x01\x61a\x01")
@example(b"\xa2\x61a\x01\x61a\x01")
@settings(deadline=None)
def test_decode__random_bytes__either_read_back_to_themselves_or_are_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except ArtifactRefused:
        return
    assert encode(value) == data


REFUSED = {
    "nothing": b"",
    "float": b"\xfb" + bytes(8),
    "half float": b"\xf9\x7c\x00",
    "null": b"\xf6",
    "undefined": b"\xf7",
    "simple value": b"\xf8\x18",
    "break": b"\xff",
    "link": b"\xd8\x2a\x45\x00\x01\x55\x00\x00",
    "big number tag": b"\xc2\x41\x01",
    "long integer": b"\x18\x01",
    "longer integer": b"\x19\x00\xff",
    "longest integer": b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
    "long length": b"\x58\x01a",
    "indefinite bytes": b"\x5f\x41a\xff",
    "indefinite list": b"\x9f\xff",
    "indefinite map": b"\xbf\xff",
    "reserved head": b"\x1c",
    "integer key": b"\xa1\x01\x01",
    "bytes key": b"\xa1\x41a\x01",
    "unsorted keys": b"\xa2\x61b\x01\x61a\x01",
    "longer key first": b"\xa2\x62aa\x01\x61b\x01",
    "duplicate keys": b"\xa2\x61a\x01\x61a\x01",
    "bad UTF-8": b"\x62\xff\xff",
    "surrogate": b"\x63\xed\xa0\x80",
    "cut bytes": b"\x45abc",
    "cut list": b"\x82\x01",
    "cut head": b"\x19\x01",
    "endless length": b"\x5b" + b"\xff" * 8,
    "endless list": b"\x9b" + b"\xff" * 8,
    "trailing": b"\x01\x01",
    "too deep": b"\x81" * 17 + b"\x01",
    "very deep": b"\x81" * 500_000,
    "too many values": b"\x9a" + struct.pack(">I", 1_000_000) + bytes(1_000_000),
    "too many maps": b"\x9a" + struct.pack(">I", 1_000_000) + b"\xa0" * 1_000_000,
    "too large": b"\x5a" + struct.pack(">I", LARGEST_ARTIFACT) + bytes(LARGEST_ARTIFACT),
}


@pytest.mark.parametrize("name", REFUSED)
def test_decode__outside_the_canonical_subset__is_refused_within_a_second(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(ArtifactRefused):
        decode(REFUSED[name])

    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "value", [1.5, None, 2**64, -(2**64) - 1, {"x": object()}, "\ud800", {"\ud800": 1}, b"x" * (LARGEST_ARTIFACT + 1), {1, 2}]
)
def test_encode__outside_the_subset__is_refused(value: object) -> None:
    with pytest.raises(ArtifactRefused):
        encode(value)  # type: ignore[arg-type]  # the point of the test


def test_encode__nested_too_deep__is_refused() -> None:
    value: Plain = 1
    for _ in range(17):
        value = [value]
    with pytest.raises(ArtifactRefused):
        encode(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode_artifact("other", 1, {}), "not a thing artifact"),
        (encode_artifact("thing", 2, {}), "schema version 2"),
        (encode([1]), "must be a map"),
        (encode({"kind": "thing"}), "lacks the field version"),
        (encode({"kind": 1, "version": 1}), "must be text"),
    ],
)
def test_decode_artifact__another_kind_or_version__is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ArtifactRefused, match=reason):
        decode_artifact(data, "thing", 1)


def test_fields__every_misuse__is_refused_with_its_place() -> None:
    value = {"n": 7, "t": "text", "b": b"xy", "f": True, "l": [1], "m": {"x": 1}, "s": "\ud800", "c": "a\0b", "e": ""}
    refusals: dict[str, Callable[[Fields], object]] = {
        "thing.n must lie between 8 and 9": lambda f: f.integer("n", 8, 9),
        "thing.f must be an integer": lambda f: f.integer("f", 0, 9),
        "thing.n must be true or false": lambda f: f.boolean("n"),
        "thing.b must be text": lambda f: f.text("b"),
        "thing.t must have between 1 and 3 characters": lambda f: f.text("t", 3),
        "thing.e must have between": lambda f: f.text("e"),
        "thing.s holds a control character or a lone surrogate": lambda f: f.text("s"),
        "thing.c holds a control character": lambda f: f.text("c"),
        "thing must be a map with text keys, without control": lambda f: Fields({"a\0": 1}, f.place),
        "thing.t must be bytes": lambda f: f.octets("t", 4),
        "thing.b has the wrong length": lambda f: f.octets("b", 3),
        "thing.t must be a list": lambda f: f.texts("t", 3),
        "thing.l has 1 entries": lambda f: f.texts("l", 0),
        "thing.l must be text": lambda f: f.texts("l", 3),
        "thing.l must hold bytes only": lambda f: f.octet_strings("l", 3),
        r"thing.l\[0\] must be a map": lambda f: f.records("l", 3),
        "thing.n must be a map": lambda f: f.record("n"),
        "thing lacks the field z": lambda f: f.text("z"),
        "thing has unknown fields: b, c, e, f, l": lambda f: f.done(),
    }
    for reason, read in refusals.items():
        with pytest.raises(ShapeRefused, match=reason):
            read(Fields(value, "thing"))
