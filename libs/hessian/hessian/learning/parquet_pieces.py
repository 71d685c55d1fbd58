"""A Parquet file read from a stream, one row group at a time: what is held is a row group's bytes and a few batches of its rows.

The stream begins with a frame (`frame`) that repeats the file's end. A file whose row groups do not follow one another, or are larger than
a node holds, is refused with what to do about it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from hessian.learning.arrays import Arrays, texts
from hessian.learning.formats import DAMAGED, LARGEST_END, LEAST_END, MAGIC, WORD
from hessian.learning.rows import NO_ROWS, Batch, RowsRefused, check_header, chosen_places

LARGEST_ROW_GROUP = 512 << 20
BATCH_ROWS = 1 << 15
_READ_BYTES = 1 << 16  # of one column at a time; otherwise Arrow copies every column's share of the row group before it decodes any

_ARROW_REFUSES = (ValueError, OSError, pa.ArrowNotImplementedError, pa.ArrowKeyError, pa.ArrowTypeError, pa.ArrowIndexError)


@dataclass(frozen=True)
class ParquetPiece:
    """Consecutive rows, decoded."""

    batch: pa.RecordBatch
    wanted: Sequence[str]
    nulls: Collection[str] = ("",)

    def arrays(self) -> tuple[Arrays, int]:
        """The wanted columns and their rows."""
        return {name: self.batch.column(name) for name in self.wanted}, self.batch.num_rows

    def strictly(self, first_row: int) -> Iterator[Batch]:
        """The same rows as raw cells. Raises RowsRefused for a column of lists or bytes."""
        columns = {}
        for name in self.wanted:
            try:
                columns[name] = texts(self.batch.column(name))
            except RowsRefused as error:
                raise RowsRefused(f"column {name!r}: {error.sentence}") from error
        yield Batch(first_row, columns)


def parquet_pieces(
    chunks: Iterable[bytes], wanted: Sequence[str] | None = None, *, levels: Collection[str] = (), batch_rows: int = BATCH_ROWS
) -> Iterator[ParquetPiece]:
    """The pieces of a framed stream in order, with the wanted columns (None: all). Raises RowsRefused, ColumnMissing.

    `levels` names columns of few different texts: they are left as the file has them, each text once and its number in every row.
    """
    stream = _Stream(chunks)
    if stream.take(len(MAGIC)) != MAGIC:
        raise RowsRefused(DAMAGED)
    size, length = (int.from_bytes(stream.take(WORD), "big") for _ in range(2))
    if not 0 < length <= max(LARGEST_END, LEAST_END) or length > size:
        raise RowsRefused(DAMAGED)
    view = _View(size, stream.take(length))
    begin = stream.position
    try:
        source = pa.PythonFile(view, mode="r")
        file = pq.ParquetFile(source, pre_buffer=False)
        header = check_header(list(file.schema_arrow.names))
        chosen = list(chosen_places(header, wanted))
        paths = [file.schema.column(place).path for place in range(len(file.schema))]
        kept = [path for path in paths if path in levels]
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_READ_BYTES, read_dictionary=kept, metadata=file.metadata)
        rows = 0
        for group in range(file.num_row_groups):
            start, end = _span(file.metadata, group, chosen, size)
            if start + begin < stream.position:
                raise RowsRefused("the Parquet file's row groups do not stand in order: write it anew")
            stream.skip(start + begin - stream.position)
            view.show(start, [])  # lets go of the row group before, so that two are never held
            view.show(start, stream.parts(end - start))
            for batch in file.iter_batches(batch_size=batch_rows, row_groups=[group], columns=chosen):
                batch.validate(full=True)  # text that is not UTF-8, indices outside their dictionary
                rows += batch.num_rows
                yield ParquetPiece(batch, chosen)
    except _ARROW_REFUSES as error:
        raise RowsRefused(DAMAGED) from error
    stream.skip_rest()
    if not rows:
        raise RowsRefused(NO_ROWS)


def _span(metadata: pq.FileMetaData, group: int, wanted: Sequence[str], size: int) -> tuple[int, int]:
    """First and last byte of a row group's wanted columns. Raises RowsRefused where they cannot lie."""
    contents = metadata.row_group(group)
    start, end = size, 0
    for place in range(contents.num_columns):
        column = contents.column(place)
        if column.path_in_schema.split(".")[0] not in wanted and column.path_in_schema not in wanted:
            continue
        first = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
        start, end = min(start, first), max(end, first + column.total_compressed_size)
    if not 0 <= start <= end <= size:
        raise RowsRefused(DAMAGED)
    if end - start > LARGEST_ROW_GROUP:
        raise RowsRefused(f"row group {group + 1} of the Parquet file is larger than {LARGEST_ROW_GROUP >> 20} MiB: write smaller ones")
    return start, end


class _Stream:
    """Chunks as a stream that only goes forward."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""
        self.position = 0

    def take(self, count: int) -> bytes:
        """Exactly so many bytes. Raises RowsRefused where the stream ends before."""
        return b"".join(self.parts(count))

    def parts(self, count: int) -> list[bytes]:
        """Exactly so many bytes, in the parts they came in. Raises RowsRefused where the stream ends before."""
        parts, missing = [], count
        while missing:
            part = self._next()[:missing]
            self._left = self._left[len(part) :]
            parts.append(part)
            missing -= len(part)
        self.position += count
        return parts

    def skip(self, count: int) -> None:
        """Leave out so many bytes. Raises RowsRefused where the stream ends before."""
        while count:
            step = min(count, 1 << 20)
            self.take(step)
            count -= step

    def skip_rest(self) -> None:
        """Read to the end, so that whoever sends is not cut off."""
        for _ in self._chunks:
            pass

    def _next(self) -> bytes:
        while not self._left:
            following = next(self._chunks, None)
            if following is None:
                raise RowsRefused(DAMAGED)
            self._left = following
        return self._left


class _Stretch:
    """Consecutive bytes of a file in several parts. `starts`: where each part begins in the file, and where the last one ends."""

    def __init__(self, start: int, parts: list[bytes]) -> None:
        self._parts = parts
        self.starts = list(accumulate(map(len, parts), initial=start))

    def between(self, start: int, stop: int) -> bytes | memoryview:
        """The bytes of [start, stop), which must lie within."""
        first = bisect_right(self.starts, start) - 1
        last = bisect_left(self.starts, stop) - 1
        pieces = [
            memoryview(part)[max(0, start - begin) : stop - begin]
            for begin, part in zip(self.starts[first : last + 1], self._parts[first : last + 1], strict=False)
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _View:
    """A file of which only the end and one stretch are there, as Arrow reads files. A stretch stays in the parts it came in: Arrow asks for
    one column at a time, and many small copies in memory that is used again are faster than one large copy in memory that is new."""

    def __init__(self, size: int, end: bytes) -> None:
        self._size = size
        self._end = _Stretch(size - len(end), [end])
        self._shown = _Stretch(0, [])
        self._position = 0
        self.closed = False

    def show(self, start: int, parts: list[bytes]) -> None:
        """From now on this stretch is there, and the one before is not."""
        self._shown = _Stretch(start, parts)

    def read(self, count: int = -1) -> bytes | memoryview:
        """Bytes from the position on. Raises RowsRefused for a stretch that is not there."""
        start = self._position
        stop = self._size if count < 0 else min(self._size, start + count)
        for stretch in (self._shown, self._end):
            if stretch.starts[0] <= start and stop <= stretch.starts[-1]:
                self._position = stop
                return stretch.between(start, stop)
        raise RowsRefused(DAMAGED)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position, as files do."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def close(self) -> None:
        """Nothing to close."""
        self.closed = True

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True
