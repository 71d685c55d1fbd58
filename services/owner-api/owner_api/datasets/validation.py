"""What a CSV must be before it becomes a dataset. One pass in bounded memory; a refusal names row and column and never repeats a cell.

The pass also makes the rows' fingerprints (`fingerprints`) and hands them on, batch by batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from hessian.errors import Malformed, TooLarge
from hessian.learning.columns import ColumnMissing
from hessian.learning.rows import Batch, read_columns, text_lines
from owner_api.datasets.fingerprints import fingerprints_of
from owner_api.settings import DatasetLimits

_NOT_FINITE = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE | re.ASCII)
_EXPONENT = re.compile(r"\s*[+-]?[0-9.]+[eE]\+?[0-9]{2,6}\s*", re.ASCII)


class DatasetRefused(Malformed):
    """The upload is not a dataset this node can use."""


class DatasetTooLarge(TooLarge):
    """The upload has more rows, more columns or longer cells than this node takes."""


@dataclass
class Summary:
    """What is known of a valid dataset besides its rows."""

    columns: list[str] = field(default_factory=list)
    rows: int = 0


def validate(
    chunks: Iterable[bytes],
    *,
    label: str,
    positive_value: str,
    limits: DatasetLimits,
    fingerprint_key: bytes,
    keep: Callable[[Collection[bytes]], object],
) -> Summary:
    """Read a CSV to its end; `keep` is given the fingerprints of every batch of rows.

    Raises RowsRefused, ColumnMissing, DatasetRefused, DatasetTooLarge.
    """
    summary = Summary()
    classes: set[str] = set()
    for batch in read_columns(text_lines(chunks), batch_rows=1024):
        if not summary.rows:
            summary.columns = _header(batch, label, limits)
        summary.rows = batch.first_row + len(batch.columns[label]) - 1
        if summary.rows > limits.dataset_rows:
            raise DatasetTooLarge(f"a dataset may have at most {limits.dataset_rows} rows")
        for name, cells in batch.columns.items():
            _check_cells(name, cells, batch.first_row, limits.dataset_cell_characters)
        _check_labels(batch, label, positive_value, classes)
        keep(fingerprints_of(batch, label, fingerprint_key))
    if summary.rows < 2:
        raise DatasetRefused("the dataset has one row: its statistics would be that row")
    if len(classes) < 2 or positive_value not in classes:
        found = "only the positive value" if positive_value in classes else "no positive value"
        raise DatasetRefused(f"the label column {label!r} holds {found}: both classes are needed")
    return summary


def _header(batch: Batch, label: str, limits: DatasetLimits) -> list[str]:
    names = list(batch.columns)
    if len(names) > limits.dataset_columns:
        raise DatasetTooLarge(f"a dataset may have at most {limits.dataset_columns} columns, this one has {len(names)}")
    if len(names) < 2:
        raise DatasetRefused("the dataset has one column: it needs the label and at least one feature")
    if label not in batch.columns:
        raise ColumnMissing(f"the label column {label!r} is missing")
    for name in names:
        if len(name) > limits.dataset_cell_characters:
            raise DatasetTooLarge(f"a column's name may have at most {limits.dataset_cell_characters} characters")
    return names


def _check_cells(name: str, cells: list[str], first_row: int, longest: int) -> None:
    for row, cell in enumerate(cells, start=first_row):
        if len(cell) > longest:
            raise DatasetTooLarge(f"row {row}, column {name!r}: a cell may have at most {longest} characters")
        if _NOT_FINITE.fullmatch(cell) or (_EXPONENT.fullmatch(cell) and _overflows(cell)):
            raise DatasetRefused(f"row {row}, column {name!r}: the cell is not a finite number")


def _overflows(cell: str) -> bool:
    try:
        return math.isinf(float(cell))
    except ValueError:  # "1.2.3e55" only looks like a number: text, and none of our business here
        return False


def _check_labels(batch: Batch, label: str, positive_value: str, classes: set[str]) -> None:
    for row, cell in enumerate(batch.columns[label], start=batch.first_row):
        if cell in classes:
            continue
        negatives = classes - {positive_value}
        if cell == "" or (cell != positive_value and negatives):
            raise DatasetRefused(f"row {row}, label column {label!r}: the label is neither of the two classes")
        classes.add(cell)
