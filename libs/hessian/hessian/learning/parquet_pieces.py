"""A Parquet file read from a stream, one row group at a time: what is held is a row group's bytes and a few batches of its rows.

The stream begins with a frame (`frame`) that repeats the file's end. A file whose row groups do not follow one another, or are larger than
a node holds, is refused with what to do about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from hessian.learning.arrays import Arrays, texts
from hessian.learning.formats import DAMAGED, LARGEST_END, LEAST_END, MAGIC, WORD
from hessian.learning.rows import NO_ROWS, Batch, RowsRefused, check_header, chosen_places

LARGEST_ROW_GROUP = 512 << 20
BATCH_ROWS = 1 << 15

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


def parquet_pieces(chunks: Iterable[bytes], wanted: Sequence[str] | None = None, *, batch_rows: int = BATCH_ROWS) -> Iterator[ParquetPiece]:
    """The pieces of a framed stream in order, with the wanted columns (None: all). Raises RowsRefused, ColumnMissing."""
    stream = _Stream(chunks)
    if stream.take(len(MAGIC)) != MAGIC:
        raise RowsRefused(DAMAGED)
    size, length = (int.from_bytes(stream.take(WORD), "big") for _ in range(2))
    if not 0 < length <= max(LARGEST_END, LEAST_END) or length > size:
        raise RowsRefused(DAMAGED)
    view = _View(size, stream.take(length))
    begin = stream.position
    try:
        file = pq.ParquetFile(pa.PythonFile(view, mode="r"), pre_buffer=False)
        header = check_header(list(file.schema_arrow.names))
        chosen = list(chosen_places(header, wanted))
        rows = 0
        for group in range(file.num_row_groups):
            start, end = _span(file.metadata, group, chosen, size)
            if start + begin < stream.position:
                raise RowsRefused("the Parquet file's row groups do not stand in order: write it anew")
            stream.skip(start + begin - stream.position)
            view.show(start, stream.take(end - start))
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
        parts, missing = [], count
        while missing:
            part = self._next()[:missing]
            self._left = self._left[len(part) :]
            parts.append(part)
            missing -= len(part)
        self.position += count
        return b"".join(parts)

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


class _View:
    """A file of which only the end and one stretch are there, as Arrow reads files."""

    def __init__(self, size: int, end: bytes) -> None:
        self._size = size
        self._end = (size - len(end), memoryview(end))
        self._shown = (0, memoryview(b""))
        self._position = 0
        self.closed = False

    def show(self, start: int, data: bytes) -> None:
        """From now on this stretch is there."""
        self._shown = (start, memoryview(data))

    def read(self, count: int = -1) -> memoryview:
        """Bytes from the position on. Raises RowsRefused for a stretch that is not there."""
        start = self._position
        stop = self._size if count < 0 else min(self._size, start + count)
        for begin, data in (self._shown, self._end):
            if begin <= start and stop <= begin + len(data):
                self._position = stop
                return data[start - begin : stop - begin]
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
