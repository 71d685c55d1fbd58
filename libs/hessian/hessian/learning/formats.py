"""What a table may come as, told by its first bytes, and how a Parquet file travels as a stream.

Parquet keeps its table of contents at the end, so in a stream the end is repeated in front.

    "PAR1" ‖ uint64_be(size of the file) ‖ uint64_be(size of its end) ‖ the end ‖ the file from its first byte to its last
"""

from __future__ import annotations

from enum import StrEnum

from hessian.learning.rows import RowsRefused

MAGIC = b"PAR1"
TRAILER = 8  # bytes at a file's very end: the length of its table of contents, and the magic
WORD = 8
LARGEST_END = 16 << 20
LEAST_END = 1 << 16  # what Arrow reads at once to find the table of contents
DAMAGED = "the file begins as Parquet but cannot be read as such: it is cut off, damaged or encrypted"

_OTHER_FILES = {
    b"\x1f\x8b": "gzip-compressed",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x28\xb5\x2f\xfd": "zstandard-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"ARROW1": "an Arrow file",
    b"ORC": "an ORC file",
    b"SQLite format 3": "a SQLite database",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"%PDF": "a PDF",
}
LONGEST_MAGIC = max(map(len, _OTHER_FILES))


class TableFormat(StrEnum):
    """What a table may come as; the value is its content type."""

    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"


def format_of(first: bytes) -> TableFormat:
    """What a table's first bytes say it is. Raises RowsRefused for files that are known to be something else."""
    for magic, what in _OTHER_FILES.items():
        if first.startswith(magic):
            raise RowsRefused(f"the table is {what}: send it as plain CSV or as Parquet")
    return TableFormat.PARQUET if first.startswith(MAGIC) else TableFormat.CSV


def frame(size: int, end: bytes) -> bytes:
    """What goes before a file of `size` bytes whose last bytes are `end`."""
    return MAGIC + size.to_bytes(WORD, "big") + len(end).to_bytes(WORD, "big") + end


def length_of_end(size: int, last: bytes) -> int:
    """How many bytes at the end of a file hold its table of contents, from its last eight. Raises RowsRefused."""
    length = int.from_bytes(last[:4], "little") + TRAILER
    if len(last) != TRAILER or last[4:] != MAGIC or length > size - len(MAGIC):
        raise RowsRefused(DAMAGED)
    if length > LARGEST_END:
        raise RowsRefused(f"the Parquet file's table of contents is larger than {LARGEST_END} bytes: write fewer, larger row groups")
    return min(size, max(length, LEAST_END))


def framed(data: bytes) -> bytes:
    """A whole file in memory as the stream's first bytes: its frame. Raises RowsRefused."""
    return frame(len(data), data[-length_of_end(len(data), data[-TRAILER:]) :])
