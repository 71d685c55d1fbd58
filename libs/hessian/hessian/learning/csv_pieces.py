"""A CSV's byte stream in pieces of whole records that can be read at the same time, many rows at once.

Arrow's reader takes more than this project does (blanks around numbers, quotes in the middle of a cell, "nan"). So a piece goes to it only
when its bytes rule all of that out; any other piece, and any that Arrow refuses, is read by `rows`, which decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from hessian.learning.arrays import Arrays
from hessian.learning.columns import Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.rows import LONGEST_RECORD, Batch, chosen_places, read_header, read_records, text_lines

PIECE_BYTES = 4 << 20
_LONGEST_PLAIN = 1 << 16  # a line this long cannot hide between two marks of that distance; every cell is then shorter than `rows` allows
_QUOTE, _COMMA, _LINE_END, _RETURN = b'",\n\r'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PLUSES = (b",+", b"\n+", b'"+')
_BLANKS = (b", ", b" ,", b"\n ", b" \n", b" \r", b'" ', b' "')


@dataclass(frozen=True)
class CsvPiece:
    """Whole records below `header`, as bytes. `rest` is what follows when nothing could be cut any more."""

    header: Sequence[str]
    specification: FeatureSpecification
    data: bytes
    is_plain: bool
    rest: Iterable[bytes] = ()

    @property
    def nulls(self) -> Collection[str]:
        """What a null of a number may have been: Arrow looks every cell up in these, so none that no column declares."""
        return {value for feature in self.specification.features if isinstance(feature, Numeric) for value in feature.missing_values}

    def arrays(self) -> tuple[Arrays, int] | None:
        """The wanted columns and their rows, or None: read it strictly."""
        if not self.is_plain or not _is_plain(self.data):
            return None
        try:
            table = arrow_csv.read_csv(pa.BufferReader(self.data), *self._options())
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            return None
        columns = {name: column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for name, column in zip(
            table.column_names, table.columns, strict=True)}  # fmt: skip
        return columns, table.num_rows

    def strictly(self, first_row: int) -> Iterator[Batch]:
        """The same rows, read by `rows`. Raises RowsRefused, ColumnMissing."""
        lines = text_lines(chain([self.data], self.rest), encoding="utf-8")
        yield from read_records(lines, self.header, self.specification.columns, first_row=first_row)

    def _options(self) -> tuple[arrow_csv.ReadOptions, arrow_csv.ParseOptions, arrow_csv.ConvertOptions]:
        has_blanks = _has_blanks(self.data)
        levels, text = pa.dictionary(pa.int32(), pa.string()), pa.string()
        types: dict[str, pa.DataType] = {self.specification.label.column: levels}
        for feature in self.specification.features:
            if isinstance(feature, Numeric):
                types[feature.name] = text if has_blanks or feature.unit else pa.float64()
            else:
                types[feature.name] = levels
        return (
            arrow_csv.ReadOptions(use_threads=False, block_size=len(self.data) + 1, column_names=list(self.header)),
            arrow_csv.ParseOptions(quote_char='"' if b'"' in self.data else False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=sorted(self.nulls), strings_can_be_null=False
            ),
        )


def csv_pieces(chunks: Iterable[bytes], specification: FeatureSpecification, *, piece_bytes: int = PIECE_BYTES) -> Iterator[CsvPiece]:
    """The table's pieces in order. Raises RowsRefused, ColumnMissing for its header."""
    blocks = _records(chunks, piece_bytes)
    first = next(blocks, b"").removeprefix(_BYTE_ORDER_MARK)
    end = _end_of_record(first)
    header = read_header(text_lines([first[:end]], encoding="utf-8"))
    chosen_places(header, specification.columns)
    for block in chain([first[end:]], blocks):
        if not block:
            continue
        quotes = _quotes(block)
        if quotes is None:  # where a record ends is no longer sure: what follows is read in one go
            yield CsvPiece(header, specification, block, False, blocks)
            return
        yield CsvPiece(header, specification, block, len(header) > 1 and not _any_line_end_within(block, quotes))


def _records(chunks: Iterable[bytes], piece_bytes: int) -> Iterator[bytes]:
    """The stream in blocks that end where a record does, as far as the count of quotes tells."""
    held, size = list[bytes](), 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size < piece_bytes:
            continue
        data = b"".join(held)
        end = _last_record(data)
        if not end and size <= 4 * LONGEST_RECORD + piece_bytes:
            held = [data]
            continue
        end = end or len(data)  # a record longer than any may be: `rows` refuses it
        yield data[:end]
        held, size = [data[end:]], len(data) - end
    if rest := b"".join(held):
        yield rest


def _last_record(data: bytes) -> int:
    """Where the last whole record ends; 0 when there is none."""
    end = data.rfind(b"\n") + 1
    if b'"' in data and data.count(b'"', 0, end) % 2:  # that line end stands within quotes (looking is faster than counting)
        end = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
    return end


def _end_of_record(data: bytes) -> int:
    """Where the first record ends."""
    end = data.find(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.find(b"\n", end) + 1
    return end or len(data)


def _quotes(block: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None:
    """Where the quotes stand, or None when they do not stand as RFC 4180 has them: around whole cells, and doubled within."""
    if b'"' not in block:
        return np.empty(0, dtype=np.int64)
    data = np.frombuffer(block, dtype=np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    if len(quotes) % 2:
        return None
    opening, closing = quotes[0::2], quotes[1::2]
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    fits = np.isin(before, (_COMMA, _LINE_END, _QUOTE)).all() and np.isin(after, (_COMMA, _LINE_END, _RETURN, _QUOTE)).all()
    return quotes if fits else None


def _any_line_end_within(block: bytes, quotes: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bool:
    if not len(quotes):
        return False
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == _LINE_END)
    return bool((np.searchsorted(quotes, ends) % 2).any())


def _is_plain(block: bytes) -> bool:
    """UTF-8 without NUL, every line end one, no line near the longest there may be, no cell with the leading plus that Arrow allows."""
    if b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        return False
    if b"+" in block and (block[:1] == b"+" or any(pair in block for pair in _PLUSES)):
        return False
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            return False
    marks = range(0, len(block), _LONGEST_PLAIN)
    return all(block.find(b"\n", mark, mark + _LONGEST_PLAIN) >= 0 for mark in marks[:-1])


def _has_blanks(block: bytes) -> bool:
    """Whether a cell may begin or end with a blank, which Arrow would drop from a number."""
    if b"\t" in block:
        return True
    return b" " in block and (block[:1] == b" " or block[-1:] == b" " or any(pair in block for pair in _BLANKS))
