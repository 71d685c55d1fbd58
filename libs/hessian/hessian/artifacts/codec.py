"""Canonical DAG-CBOR, the part of it that artifacts use: 64-bit integers, bytes, text, booleans, lists, maps with text keys (PROTOCOL §8).

One value has one encoding, and only that one is read: shortest heads, definite lengths, map keys sorted by length and then by bytes, no
duplicates, nothing after the end. No floats, no null, no links. The reader is written for hostile bytes: it caps size, depth and the number
of items before it builds anything (a general DAG-CBOR reader spends half a minute on one crafted block of a mebibyte).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hessian.errors import Malformed
from hessian.learning.plain import Fields, Plain

LARGEST_ARTIFACT = 1 << 20
DEEPEST_NESTING = 16
MOST_ITEMS = 100_000

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _SIMPLE = 0, 1, 2, 3, 4, 5, 7
_FALSE, _TRUE = b"\xf4", b"\xf5"


class ArtifactRefused(Malformed):
    """These bytes are not the artifact they claim to be."""


@contextmanager
def refusals() -> Iterator[None]:
    """Whatever a part of an artifact is refused for, the artifact is refused for: one error class at this wall, the cause kept."""
    try:
        yield
    except ArtifactRefused:
        raise
    except Malformed as error:
        raise ArtifactRefused(error.sentence) from error


def encode(value: Plain) -> bytes:
    """The canonical bytes. Raises ArtifactRefused when they exceed 1 MiB or the value is outside the subset."""
    parts: list[bytes] = []
    _write(value, parts, 0)
    data = b"".join(parts)
    if len(data) > LARGEST_ARTIFACT:
        raise ArtifactRefused(f"an artifact holds at most {LARGEST_ARTIFACT} bytes, this one {len(data)}")
    return data


def decode(data: bytes) -> Plain:
    """The value of canonical bytes. Raises ArtifactRefused for anything else."""
    if len(data) > LARGEST_ARTIFACT:
        raise ArtifactRefused(f"an artifact holds at most {LARGEST_ARTIFACT} bytes, this one {len(data)}")
    reader = _Reader(data)
    value = reader.read(0)
    if reader.position != len(data):
        raise ArtifactRefused("there are bytes after the end of the artifact")
    return value


def encode_artifact(kind: str, version: int, fields: Mapping[str, Plain]) -> bytes:
    """The bytes of one artifact: its fields beside its kind and schema version."""
    return encode({"kind": kind, "version": version, **fields})


def decode_artifact(data: bytes, kind: str, version: int) -> Fields:
    """The fields of an artifact of this kind and schema version, to be read one by one. Raises ArtifactRefused."""
    with refusals():
        fields = Fields(decode(data), kind)
        found, found_version = fields.text("kind", 40), fields.integer("version", 0, 2**16)
    if found != kind:
        raise ArtifactRefused(f"this is not a {kind} artifact")
    if found_version != version:
        raise ArtifactRefused(f"this {kind} has schema version {found_version}; this node reads version {version}")
    return fields


def _head(major: int, number: int) -> bytes:
    for size, marker in ((0, number), (1, 24), (2, 25), (4, 26), (8, 27)):
        if number < (24 if size == 0 else 1 << (8 * size)):
            return bytes([major << 5 | marker]) + (number.to_bytes(size, "big") if size else b"")
    raise ArtifactRefused("an integer of an artifact does not fit 64 bits")


def _write(value: Plain, parts: list[bytes], depth: int) -> None:
    if depth > DEEPEST_NESTING:
        raise ArtifactRefused(f"an artifact nests at most {DEEPEST_NESTING} levels")
    if isinstance(value, bool):
        parts.append(_TRUE if value else _FALSE)
    elif isinstance(value, int):
        parts.append(_head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value))
    elif isinstance(value, bytes):
        parts += (_head(_BYTES, len(value)), value)
    elif isinstance(value, str):
        octets = _octets(value)
        parts += (_head(_TEXT, len(octets)), octets)
    elif isinstance(value, list | tuple):
        parts.append(_head(_LIST, len(value)))
        for item in value:
            _write(item, parts, depth + 1)
    elif isinstance(value, Mapping):
        parts.append(_head(_MAP, len(value)))
        for name in sorted(map(_octets, value), key=lambda octets: (len(octets), octets)):
            parts += (_head(_TEXT, len(name)), name)
            _write(value[name.decode()], parts, depth + 1)
    else:
        raise ArtifactRefused(f"an artifact cannot hold a {type(value).__name__}")


def _octets(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArtifactRefused("a text of an artifact is not valid Unicode") from error


class _Reader:
    """A cursor over untrusted bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0
        self._items = 0

    def read(self, depth: int) -> Plain:
        if depth > DEEPEST_NESTING:
            raise ArtifactRefused(f"an artifact nests at most {DEEPEST_NESTING} levels")
        self._items += 1
        if self._items > MOST_ITEMS:
            raise ArtifactRefused(f"an artifact holds at most {MOST_ITEMS} values")
        major, number = self._head()
        if major == _UNSIGNED:
            return number
        if major == _NEGATIVE:
            return -1 - number
        if major == _BYTES:
            return self._take(number)
        if major == _TEXT:
            return self._text(number)
        if major == _LIST:
            return [self.read(depth + 1) for _ in range(number)]
        if major == _MAP:
            return self._map(number, depth)
        return number == _TRUE[0] & 31  # the only simple values `_head` lets through

    def _map(self, entries: int, depth: int) -> dict[str, Plain]:
        values: dict[str, Plain] = {}
        previous = (-1, b"")
        for _ in range(entries):
            major, number = self._head()
            if major != _TEXT:
                raise ArtifactRefused("the keys of a map are text")
            start = self.position
            name = self._text(number)
            order = (number, self._data[start : self.position])
            if order <= previous:
                raise ArtifactRefused("the keys of a map must be sorted and different")
            previous = order
            values[name] = self.read(depth + 1)
        return values

    def _head(self) -> tuple[int, int]:
        first = self._take(1)[0]
        major, low = first >> 5, first & 31
        if major == _SIMPLE:
            if first not in (_FALSE[0], _TRUE[0]):
                raise ArtifactRefused("an artifact holds no floats, no null and no other simple values")
            return major, low
        if low < 24:
            number = low
        elif low <= 27:
            size = 1 << (low - 24)
            number = int.from_bytes(self._take(size), "big")
            if number < (24 if size == 1 else 1 << (4 * size)):
                raise ArtifactRefused("a length or an integer is not written in its shortest form")
        else:
            raise ArtifactRefused("an artifact has definite lengths only")
        if major == 6:
            raise ArtifactRefused("an artifact holds no tags and no links")
        return major, number

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise ArtifactRefused("a text of the artifact is not valid UTF-8") from error

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise ArtifactRefused("the artifact ends too early")
        taken = self._data[self.position : end]
        self.position = end
        return taken
