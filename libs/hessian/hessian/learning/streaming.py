"""Exact sufficient statistics of a table of any size, in bounded memory and on several cores (PROTOCOL §3).

The stream is cut into pieces of whole rows; threads read, encode and multiply them at the same time, at most one more than there are
threads. Whatever a fast reader does not take as it stands is read again by the strict one, in the table's order, so that a refusal names
the first row at fault. Sums are integers: neither the cut nor the order of the threads changes a digit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hessian.learning.arrays import encode
from hessian.learning.columns import Category
from hessian.learning.csv_pieces import PIECE_BYTES, CsvPiece, csv_pieces
from hessian.learning.features import FeatureSpecification, FloatMatrix, IntMatrix
from hessian.learning.formats import TableFormat
from hessian.learning.parquet_pieces import BATCH_ROWS, ParquetPiece, parquet_pieces
from hessian.learning.rows import NO_ROWS, RowsRefused
from hessian.learning.statistics import SufficientStatistics, Sums
from hessian.learning.tables import opened

Clip = Callable[[IntMatrix], IntMatrix]
"""What is done to quantised rows (n × d) before they are summed."""


def statistics_of(
    chunks: Iterable[bytes],
    specification: FeatureSpecification,
    *,
    threads: int = 1,
    clip: Clip | None = None,
    piece_bytes: int = PIECE_BYTES,
    batch_rows: int = BATCH_ROWS,
) -> SufficientStatistics:
    """G and h of a table's rows: a CSV's bytes, or a Parquet file's behind its frame (`parquet_pieces`).

    Raises RowsRefused, ColumnMissing, CellRefused: row and column are named, cells never.
    """
    kind, stream = opened(chunks)
    pieces: Iterator[CsvPiece] | Iterator[ParquetPiece]
    if kind is TableFormat.CSV:
        pieces = csv_pieces(stream, specification, piece_bytes=piece_bytes)
    else:
        levels = [feature.name for feature in specification.features if isinstance(feature, Category)]
        pieces = parquet_pieces(stream, specification.columns, levels=[*levels, specification.label.column], batch_rows=batch_rows)
    work = _Work(specification, clip, deque())
    rows, total = 0, Sums(specification.dimension)
    for piece, result in _ahead(pieces, work.sums_of, threads):
        done = result if result is not None else work.strictly(piece, rows + 1)
        rows += done.rows
        total.merge(done)
    if not rows:
        raise RowsRefused(NO_ROWS)
    return total.statistics()


@dataclass(frozen=True)
class _Work:
    """What is done to one piece.

    `rooms`: matrices in which no thread writes rows just now, at most one per thread; they serve piece after piece, because the first touch
    of new memory costs more than encoding what goes there.
    """

    specification: FeatureSpecification
    clip: Clip | None
    rooms: deque[FloatMatrix]

    def sums_of(self, piece: CsvPiece | ParquetPiece) -> Sums | None:
        """The piece's own sums, or None where it has to be read strictly."""
        read = piece.arrays()
        if read is None:
            return None
        arrays, rows = read
        room = self._room(rows)
        entries = encode(self.specification, arrays, room[:rows], piece.nulls)
        sums = None if entries is None else self._sums(entries)
        self.rooms.append(room)
        return sums

    def strictly(self, piece: CsvPiece | ParquetPiece, first_row: int) -> Sums:
        """The same by the strict readers. Raises RowsRefused, ColumnMissing, CellRefused."""
        sums = Sums(self.specification.dimension)
        for batch in piece.strictly(first_row):
            features, labels = self.specification.matrix(batch.columns, first_row=batch.first_row)
            sums.merge(self._sums(np.column_stack([features, 2 * labels - 1]).astype(np.float64, order="F")))
        return sums

    def _room(self, rows: int) -> FloatMatrix:
        """At least rows × (d + 1), column by column, whatever stands in it."""
        try:
            room = self.rooms.pop()
        except IndexError:  # every thread's first piece
            room = np.empty((0, 0))
        return room if rows <= len(room) else np.empty((rows, self.specification.dimension + 1), order="F")

    def _sums(self, entries: FloatMatrix) -> Sums:
        if self.clip is not None:
            entries[:, :-1] = self.clip(entries[:, :-1].astype(np.int64, order="C"))
        sums = Sums(self.specification.dimension)
        sums.add(entries, self.specification.largest_quantised_entry)
        return sums


def _ahead(
    pieces: Iterator[CsvPiece] | Iterator[ParquetPiece], work: Callable[[CsvPiece | ParquetPiece], Sums | None], threads: int
) -> Iterator[tuple[CsvPiece | ParquetPiece, Sums | None]]:
    """Every piece with its result, in order; `threads` of them are worked on while the next is read."""
    waiting: deque[tuple[CsvPiece | ParquetPiece, Future[Sums | None]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="statistics") as pool:
        try:
            for piece in pieces:
                waiting.append((piece, pool.submit(work, piece)))
                if len(waiting) > threads:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            for _, result in waiting:
                result.cancel()
