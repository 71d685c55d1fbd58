"""CSV into batches of raw cells, in bounded memory and strictly: whatever a spreadsheet would silently repair is refused with its row.

Pure: it iterates over chunks or lines that somebody else reads. RFC 4180 with a header, UTF-8 (a byte-order mark is allowed). Columns that
nobody asked for are ignored; a refusal never repeats a cell.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hessian.errors import Malformed
from hessian.learning.columns import ColumnMissing
from hessian.learning.features import FeatureSpecification, IntMatrix

LONGEST_RECORD = 1 << 20  # characters of one row, quoted line ends included
MOST_COLUMNS = 4096
BATCH_ROWS = 4096


class RowsRefused(Malformed):
    """The bytes are not a CSV table this node reads."""


@dataclass(frozen=True)
class Batch:
    """Consecutive rows by column; `first_row` counts data rows from 1."""

    first_row: int
    columns: dict[str, list[str]]


def text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a byte stream, line ends kept. Raises RowsRefused for what is not UTF-8 or a line longer than a record may be."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
    left = ""
    for chunk in chunks:
        *lines, left = (left + _decoded(decoder, chunk)).split("\n")
        for line in lines:
            yield line + "\n"
        if len(left) > LONGEST_RECORD:
            raise RowsRefused(f"a line is longer than {LONGEST_RECORD} characters")
    left += _decoded(decoder, b"", final=True)
    if left:
        yield left


def read_columns(lines: Iterable[str], wanted: Sequence[str] | None = None, *, batch_rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Batches of the wanted columns (None: all). Raises RowsRefused, ColumnMissing; a table without rows is refused."""
    records = _records(lines)
    header = _header(next(records, None))
    places = {name: place for place, name in enumerate(header)}
    for name in wanted if wanted is not None else header:
        if name not in places:
            raise ColumnMissing(f"the column {name!r} is missing")
    chosen = {name: places[name] for name in (wanted if wanted is not None else header)}
    first_row, pending = 1, list[list[str]]()
    for row, record in enumerate(records, start=1):
        if len(record) != len(header):
            raise RowsRefused(f"row {row} has {len(record)} cells, the header has {len(header)}")
        pending.append(record)
        if len(pending) == batch_rows:
            yield Batch(first_row, {name: [record[place] for record in pending] for name, place in chosen.items()})
            first_row, pending = row + 1, []
    if pending:
        yield Batch(first_row, {name: [record[place] for record in pending] for name, place in chosen.items()})
    elif first_row == 1:
        raise RowsRefused("the table has a header but no rows")


def read_batches(
    lines: Iterable[str], specification: FeatureSpecification, *, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[IntMatrix, IntMatrix]]:
    """(X, y) per batch, as `FeatureSpecification.matrix` makes them. Raises RowsRefused, ColumnMissing, CellRefused."""
    for batch in read_columns(lines, specification.columns, batch_rows=batch_rows):
        yield specification.matrix(batch.columns, first_row=batch.first_row)


def _header(names: list[str] | None) -> list[str]:
    if names is None:
        raise RowsRefused("the table is empty: it needs a header and rows")
    if len(names) > MOST_COLUMNS:
        raise RowsRefused(f"the header names {len(names)} columns, more than the {MOST_COLUMNS} allowed")
    if any(not name.strip() for name in names):
        raise RowsRefused("the header has a column without a name")
    if len(set(names)) != len(names):
        raise RowsRefused("the header names a column twice")
    return names


def _records(lines: Iterable[str]) -> Iterator[list[str]]:
    """The csv module's records, its errors translated, each record's size bounded before it is built."""
    spent = 0

    def counted() -> Iterator[str]:
        nonlocal spent
        for line in lines:
            spent += len(line)
            if spent > LONGEST_RECORD:
                raise RowsRefused(f"a row is longer than {LONGEST_RECORD} characters (a quote that is never closed?)")
            yield line

    reader = csv.reader(counted(), strict=True)
    number = 0
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise RowsRefused(f"the table is not CSV at line {reader.line_num}: {error}") from error
        if record is None:
            return
        if any("\0" in cell for cell in record):
            raise RowsRefused(f"row {number} holds a NUL character")
        yield record
        number += 1
        spent = 0


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise RowsRefused("the table is not UTF-8 text") from error
