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
BATCH_CHARACTERS = 4 << 20  # a batch ends with the row that reaches it, so that it is bounded however long the rows are
NO_ROWS = "the table has a header but no rows"


class RowsRefused(Malformed):
    """The bytes are not a CSV table this node reads."""


@dataclass(frozen=True)
class Batch:
    """Consecutive rows by column; `first_row` counts data rows from 1."""

    first_row: int
    columns: dict[str, list[str]]


def text_lines(chunks: Iterable[bytes], *, encoding: str = "utf-8-sig") -> Iterator[str]:
    """The lines of a byte stream, line ends kept. Raises RowsRefused for what is not UTF-8 or a line longer than a record may be."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
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
    lines = iter(lines)
    header = read_header(lines)
    rows = 0
    for batch in read_records(lines, header, wanted, batch_rows=batch_rows):
        rows += 1
        yield batch
    if not rows:
        raise RowsRefused(NO_ROWS)


def read_header(lines: Iterator[str]) -> list[str]:
    """The column names: the first record, and no line more. Raises RowsRefused."""
    return check_header(next(_records(lines, 0), None))


def read_records(
    lines: Iterable[str], header: Sequence[str], wanted: Sequence[str] | None = None, *, first_row: int = 1, batch_rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Batches of what stands below the header, its first row numbered `first_row`. Raises RowsRefused, ColumnMissing."""
    chosen = chosen_places(header, wanted)
    begin, size, pending = first_row, 0, list[list[str]]()
    for row, record in enumerate(_records(lines, first_row), start=first_row):
        if len(record) != len(header):
            raise RowsRefused(f"row {row} has {len(record)} cells, the header has {len(header)}")
        pending.append(record)
        size += sum(map(len, record)) + len(record)
        if len(pending) == batch_rows or size >= BATCH_CHARACTERS:
            yield Batch(begin, {name: [record[place] for record in pending] for name, place in chosen.items()})
            begin, size, pending = row + 1, 0, []
    if pending:
        yield Batch(begin, {name: [record[place] for record in pending] for name, place in chosen.items()})


def chosen_places(header: Sequence[str], wanted: Sequence[str] | None) -> dict[str, int]:
    """The wanted columns (None: all) and where each stands. Raises ColumnMissing."""
    places = {name: place for place, name in enumerate(header)}
    for name in wanted if wanted is not None else header:
        if name not in places:
            raise ColumnMissing(f"the column {name!r} is missing")
    return {name: places[name] for name in (wanted if wanted is not None else header)}


def read_batches(
    lines: Iterable[str], specification: FeatureSpecification, *, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[IntMatrix, IntMatrix]]:
    """(X, y) per batch, as `FeatureSpecification.matrix` makes them. Raises RowsRefused, ColumnMissing, CellRefused."""
    for batch in read_columns(lines, specification.columns, batch_rows=batch_rows):
        yield specification.matrix(batch.columns, first_row=batch.first_row)


def check_header(names: list[str] | None) -> list[str]:
    """Column names that can be told apart. Raises RowsRefused."""
    if names is None:
        raise RowsRefused("the table is empty: it needs a header and rows")
    if len(names) > MOST_COLUMNS:
        raise RowsRefused(f"the header names {len(names)} columns, more than the {MOST_COLUMNS} allowed")
    if any(not name.strip() for name in names):
        raise RowsRefused("the header has a column without a name")
    if len(set(names)) != len(names):
        raise RowsRefused("the header names a column twice")
    return names


def _records(lines: Iterable[str], row: int) -> Iterator[list[str]]:
    """The csv module's records, its errors translated, each record's size bounded before it is built. `row` numbers the first one."""
    spent = 0

    def counted() -> Iterator[str]:
        nonlocal spent
        for line in lines:
            spent += len(line)
            if spent > LONGEST_RECORD:
                raise RowsRefused(f"row {row} is longer than {LONGEST_RECORD} characters (a quote that is never closed?)")
            yield line

    reader = csv.reader(counted(), strict=True)
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise RowsRefused(f"the table is not CSV at row {row}: {error}") from error
        if record is None:
            return
        if any("\0" in cell for cell in record):
            raise RowsRefused(f"row {row} holds a NUL character")
        yield record
        row += 1
        spent = 0


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise RowsRefused("the table is not UTF-8 text") from error
