"""What a trainer and its launcher say to each other over one connection, which is one job's container from its start to its end.

The trainer sends its token as one line, then pieces of the job's input: four bytes of length, then so many bytes; length 0 ends the input.
There is nothing else it could say: no image, no option, no command. The launcher answers in frames of the kind Docker itself uses for a
container's output (one byte that says what it is, three of zero, four of length), so that output passes through as it comes.
"""

from __future__ import annotations

import asyncio
import struct
from enum import IntEnum

LARGEST_FRAME = 1 << 20
_HEADER = struct.Struct(">BxxxI")
_LENGTH = struct.Struct(">I")
_CODE = struct.Struct(">i")


class FrameRefused(Exception):
    """The other side speaks something else."""


class Said(IntEnum):
    """What a frame of the launcher is. 1 and 2 are Docker's own numbers."""

    STARTED = 0
    OUTPUT = 1
    ERRORS = 2
    ENDED = 3
    REFUSED = 4


def frame(said: Said, data: bytes = b"") -> bytes:
    """One frame of the launcher."""
    return _HEADER.pack(said, len(data)) + data


def ended(code: int) -> bytes:
    """The last frame: the exit code."""
    return frame(Said.ENDED, _CODE.pack(code))


def code_of(data: bytes) -> int:
    """The exit code in the last frame. Raises FrameRefused."""
    if len(data) != _CODE.size:
        raise FrameRefused
    return int(_CODE.unpack(data)[0])


def piece(data: bytes) -> bytes:
    """One piece of the job's input; empty ends it."""
    return _LENGTH.pack(len(data)) + data


async def read_frame(reader: asyncio.StreamReader) -> tuple[Said, bytes]:
    """The launcher's next frame. Raises FrameRefused, asyncio.IncompleteReadError when the connection ends."""
    kind, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if kind not in set(Said) or length > LARGEST_FRAME:
        raise FrameRefused
    return Said(kind), await reader.readexactly(length)


async def read_piece(reader: asyncio.StreamReader) -> bytes:
    """The next piece of input; empty at its end. Raises FrameRefused, asyncio.IncompleteReadError when the trainer has gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > LARGEST_FRAME:
        raise FrameRefused
    return await reader.readexactly(length)
