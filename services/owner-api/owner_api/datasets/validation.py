"""What a CSV must be before it becomes a dataset. One pass in bounded memory; a refusal names row and column and never repeats a cell.

The pass also makes the rows' fingerprints: keyed hashes by which this node recognises two versions of one dataset (PROTOCOL §4).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

from hessian.errors import Malformed, TooLarge
from hessian.learning.columns import ColumnMissing
from hessian.learning.rows import Batch, read_columns, text_lines
from owner_api.settings import DatasetLimits

FINGERPRINT_BYTES = 16
_NOT_FINITE = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?", re.ASCII)
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
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
    fingerprints: set[bytes] = field(default_factory=set)


def validate(chunks: Iterable[bytes], *, label: str, positive_value: str, limits: DatasetLimits, fingerprint_key: bytes) -> Summary:
    """Read a CSV to its end. Raises RowsRefused, ColumnMissing, DatasetRefused, DatasetTooLarge."""
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
        summary.fingerprints |= _fingerprints(batch, label, fingerprint_key)
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


def _fingerprints(batch: Batch, label: str, key: bytes) -> set[bytes]:
    """Two of each row. Without the label, by the columns' names: a version that moved columns or corrected labels is recognised. All cells,
    sorted, without any name: one that declares another label is, wherever columns went and whatever they are called."""
    names = sorted(name for name in batch.columns if name != label)
    features = hashlib.blake2b(b"".join(map(_framed, names)), key=key, digest_size=FINGERPRINT_BYTES, person=b"features")
    everything = hashlib.blake2b(key=key, digest_size=FINGERPRINT_BYTES, person=b"everything")
    columns = {name: [_framed(_canonical(cell)) for cell in cells] for name, cells in batch.columns.items()}
    made = {_digest(features, row) for row in zip(*(columns[name] for name in names), strict=True)}
    return made | {_digest(everything, sorted(row)) for row in zip(*columns.values(), strict=True)}


def _digest(begun: hashlib.blake2b, cells: Iterable[bytes]) -> bytes:
    one = begun.copy()
    one.update(b"".join(cells))
    return one.digest()


def _canonical(cell: str) -> str:
    """Without what changes no value: surrounding blanks, and the way a number is written."""
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        return text
    number = Decimal(text)
    return str(number.normalize(_EXACT)) if number else "0"


def _framed(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(data), data)
