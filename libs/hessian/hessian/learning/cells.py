"""Raw CSV cells into numbers, strictly: what is not plainly a number, or not a declared value, is refused with its row and column.

A refusal never repeats the cell: rows are private, and refusals travel into answers and log lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Malformed

# ASCII digits only: float() would also take "1_000", " 1 ", "٣", "nan" and "infinity".
NUMBER = r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NUMBER = re.compile(NUMBER, re.ASCII)
_NO_NUMBER = "not a decimal number"


class CellRefused(Malformed):
    """A cell cannot be what its column says. `row` counts data rows from 1."""

    def __init__(self, row: int, column: str, reason: str) -> None:
        super().__init__(f"row {row}, column {column!r}: {reason}")
        self.row = row
        self.column = column
        self.reason = reason


def numbers(
    cells: Sequence[str],
    column: str,
    minimum: float,
    maximum: float,
    *,
    missing: Collection[str] = (),
    unit: str = "",
    first_row: int = 1,
) -> NDArray[np.float64]:
    """The cells as float64, NaN for those in `missing`; a `unit` behind the number is dropped.

    Raises CellRefused for what is no decimal number or lies outside [minimum, maximum].
    """
    _check(cells, column, first_row, lambda cell: cell in missing or _NUMBER.fullmatch(cell.removesuffix(unit)) is not None, _NO_NUMBER)
    values = np.array([math.nan if cell in missing else float(cell.removesuffix(unit)) for cell in cells], dtype=np.float64)
    outside = np.flatnonzero(~((values >= minimum) & (values <= maximum)) & ~np.isnan(values))
    if len(outside):
        raise CellRefused(first_row + int(outside[0]), column, f"outside the legal range from {minimum:g} to {maximum:g}")
    return values


def positions(
    cells: Sequence[str], column: str, known: Mapping[str, int], *, otherwise: int | None = None, first_row: int = 1
) -> NDArray[np.int64]:
    """The position each cell has in `known`, or `otherwise`. Raises CellRefused for an unknown cell when there is no `otherwise`."""
    if otherwise is None:
        _check(cells, column, first_row, known.__contains__, "not one of the declared values")
        return np.array([known[cell] for cell in cells], dtype=np.int64)
    return np.array([known.get(cell, otherwise) for cell in cells], dtype=np.int64)


def _check(cells: Sequence[str], column: str, first_row: int, accepts: Callable[[str], bool], reason: str) -> None:
    for row, cell in enumerate(cells, start=first_row):
        if not accepts(cell):
            raise CellRefused(row, column, "the cell is empty" if cell == "" else reason)
