"""The encrypted dataset file: whole or not at all, whatever happens to its bytes."""

from __future__ import annotations

import io
import secrets
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owner_api.datasets.sealed_file import CHUNK_BYTES, MAGIC, SALT_BYTES, TAG_BYTES, DatasetUnreadable, SealedWriter, read_end, read_sealed

KEY = secrets.token_bytes(32)
IDENTITY = uuid.UUID(int=7)
HEADER = len(MAGIC) + SALT_BYTES


def sealed(data: bytes, *, key: bytes = KEY, identity: uuid.UUID = IDENTITY, step: int = CHUNK_BYTES) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, key, identity)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
    writer.finish()
    return file.getvalue()


def opened(file: bytes, *, key: bytes = KEY, identity: uuid.UUID = IDENTITY) -> bytes:
    return b"".join(read_sealed(io.BytesIO(file), key, identity))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17])
@pytest.mark.parametrize("count", [1, 8, CHUNK_BYTES, CHUNK_BYTES + 30, 10 * CHUNK_BYTES])
def test_read_end__of_any_file__is_its_last_bytes_and_its_size(size: int, count: int) -> None:
    data = secrets.token_bytes(size)
    assert read_end(io.BytesIO(sealed(data)), KEY, IDENTITY, count) == (size, data[-count:])


def test_read_end__of_a_file_that_lost_its_end__is_unreadable() -> None:
    file = sealed(secrets.token_bytes(3 * CHUNK_BYTES))
    for cut in (1, TAG_BYTES, CHUNK_BYTES + TAG_BYTES):
        with pytest.raises(DatasetUnreadable):
            read_end(io.BytesIO(file[:-cut]), KEY, IDENTITY, 8)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 17])
@pytest.mark.parametrize("step", [999, CHUNK_BYTES, 10 * CHUNK_BYTES])
def test_read__what_was_written__comes_back(size: int, step: int) -> None:
    data = secrets.token_bytes(size)
    assert opened(sealed(data, step=step)) == data


def test_write__the_same_data_twice__shares_no_bytes_with_itself_or_the_plaintext() -> None:
    data = b"canary-row," * 20_000
    first, second = sealed(data), sealed(data)
    assert first[HEADER:] != second[HEADER:]
    assert b"canary" not in first


@settings(max_examples=60, deadline=None)
@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_read__one_bit_changed_anywhere__is_refused(place: int, bit: int) -> None:
    file = bytearray(_LARGE)
    file[place % len(file)] ^= 1 << bit
    with pytest.raises(DatasetUnreadable):
        opened(bytes(file))


_LARGE = sealed(bytes(2 * CHUNK_BYTES + 100))
_CHUNK = CHUNK_BYTES + TAG_BYTES


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f[:-1],
        lambda f: f[: HEADER + 2 * _CHUNK],  # cut at a chunk's edge
        lambda f: f[: HEADER + _CHUNK],
        lambda f: f[:HEADER],
        lambda f: f[:5],
        lambda _: b"",
        lambda f: f + b"x",
        lambda f: f[:HEADER] + f[HEADER + _CHUNK : HEADER + 2 * _CHUNK] + f[HEADER : HEADER + _CHUNK] + f[HEADER + 2 * _CHUNK :],  # swapped
        lambda f: f[:HEADER] + f[HEADER : HEADER + _CHUNK] + f[HEADER:],  # repeated
        lambda f: f[:HEADER] + f[HEADER + _CHUNK :],  # dropped
    ],
)
def test_read__chunks_cut_dropped_repeated_or_moved__is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DatasetUnreadable):
        opened(spoil(_LARGE))


def test_read__another_key_or_another_datasets_name__is_refused() -> None:
    file = sealed(b"rows")
    with pytest.raises(DatasetUnreadable):
        opened(file, key=secrets.token_bytes(32))
    with pytest.raises(DatasetUnreadable):
        opened(file, identity=uuid.uuid4())


def test_both_ways__a_large_file__stay_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    block, blocks = bytes(1 << 20), 24
    tracemalloc.start()
    with path.open("wb") as file:
        writer = SealedWriter(file, KEY, IDENTITY)
        for _ in range(blocks):
            writer.write(block)
        writer.finish()
    with path.open("rb") as file:
        assert sum(map(len, read_sealed(file, KEY, IDENTITY))) == blocks << 20
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20
