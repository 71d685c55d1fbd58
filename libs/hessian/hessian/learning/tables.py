"""A table in any form that is accepted, CSV or Parquet, as batches of raw cells: the bytes decide which it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from hessian.learning.formats import LONGEST_MAGIC, MAGIC, TRAILER, TableFormat, format_of, frame, framed, length_of_end
from hessian.learning.parquet_pieces import parquet_pieces
from hessian.learning.rows import BATCH_ROWS, Batch, read_columns, text_lines

_SLICE = 1 << 20


def opened(chunks: Iterable[bytes]) -> tuple[TableFormat, Iterator[bytes]]:
    """The format of a stream, and the whole stream. A Parquet stream begins with its frame. Raises RowsRefused."""
    rest = iter(chunks)
    first = b""
    while len(first) < LONGEST_MAGIC and (chunk := next(rest, None)) is not None:
        first += chunk
    return format_of(first), chain([first], rest)


def chunks_of(data: bytes) -> Iterator[bytes]:
    """A whole file in memory as a stream, with the frame in front where it is Parquet. Raises RowsRefused."""
    if format_of(data) is TableFormat.PARQUET:
        yield framed(data)
    for start in range(0, len(data), _SLICE):
        yield data[start : start + _SLICE]


def chunks_of_file(file: BinaryIO) -> Iterator[bytes]:
    """A file that can be read anywhere as a stream, with the frame in front where it is Parquet. Raises RowsRefused."""
    if file.read(len(MAGIC)) == MAGIC:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TRAILER))
        length = length_of_end(size, file.read(TRAILER))
        file.seek(size - length)
        yield frame(size, file.read(length))
    file.seek(0)
    yield from iter(lambda: file.read(_SLICE), b"")


def read_table(chunks: Iterable[bytes], wanted: Sequence[str] | None = None, *, batch_rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Batches of raw cells of the wanted columns (None: all). Raises RowsRefused, ColumnMissing."""
    kind, stream = opened(chunks)
    if kind is TableFormat.CSV:
        yield from read_columns(text_lines(stream), wanted, batch_rows=batch_rows)
        return
    row = 1
    for piece in parquet_pieces(stream, wanted, batch_rows=batch_rows):
        yield from piece.strictly(row)
        row += piece.batch.num_rows
