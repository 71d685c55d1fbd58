"""What a validation CSV must be beyond readable: no NaN, no infinity, a label in every row, both classes. No refusal repeats a cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hessian.learning.cells import CellRefused
from hessian.learning.columns import column_of
from hessian.learning.fitting import FitRefused
from hessian.learning.formats import TableFormat, format_of, framed
from hessian.learning.rows import read_columns, text_lines
from hessian.uploads import as_csv

MOST_LABEL_VALUES = 100
LARGEST_DECODED = 256 << 20
_NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a checked CSV. `negatives`: the label's other values, sorted."""

    columns: tuple[str, ...]
    rows: int
    positives: int
    negatives: tuple[str, ...]


def of(data: bytes) -> bytes:
    """The table as CSV. Raises RowsRefused, UploadUnreadable, DecodedTooLarge, DecoderUnavailable."""
    if format_of(data) is TableFormat.CSV:
        return data
    return b"".join(as_csv([framed(data), data], largest=LARGEST_DECODED))


def check(data: bytes, *, label: str, positive: str) -> Summary:
    """Read all of it once, in batches. Raises RowsRefused, ColumnMissing, CellRefused, FitRefused (one class only)."""
    columns: tuple[str, ...] = ()
    rows = positives = 0
    others: set[str] = set()
    for batch in read_columns(_lines(data)):
        columns = tuple(batch.columns)
        labels = column_of(batch.columns, label)
        for name, cells in batch.columns.items():
            for row, cell in enumerate(cells, start=batch.first_row):
                if _NOT_A_NUMBER.fullmatch(cell):
                    raise CellRefused(row, name, "NaN and infinite values cannot be used")
        for row, cell in enumerate(labels, start=batch.first_row):
            if not cell:
                raise CellRefused(row, label, "the label is missing")
        rows += len(labels)
        positives += sum(cell == positive for cell in labels)
        others |= {cell for cell in labels if cell != positive}
        if len(others) > MOST_LABEL_VALUES:
            raise FitRefused(f"the label column {label!r} has more than {MOST_LABEL_VALUES} different values")
    if not positives or not others:
        which = "no row" if not positives else "every row"
        raise FitRefused(f"{which} of column {label!r} has the positive value: a model needs both classes")
    return Summary(columns, rows, positives, tuple(sorted(others)))


def cells_of(data: bytes, names: Sequence[str]) -> dict[str, list[str]]:
    """All cells of some columns. Raises ColumnMissing."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for batch in read_columns(_lines(data), names):
        for name, cells in batch.columns.items():
            found[name] += cells
    return found


def _lines(data: bytes) -> Iterator[str]:
    return text_lines(data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
