"""Where datasets lie: one encrypted file each, named by its id, in the node's data directory.

A file becomes visible by a rename after fsync, and only then a row names it; a row disappears before its file does. Whatever a kill leaves
between the two has no row, and is swept at the next start.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, cast

from hessian.errors import NotFound
from hessian.learning.formats import MAGIC as PARQUET
from hessian.learning.formats import TRAILER as PARQUET_TRAILER
from hessian.learning.formats import frame, length_of_end
from hessian.settings import BadSettings
from owner_api.datasets.sealed_file import SealedWriter, read_end, read_sealed

_PART = ".part"
_ROWS = ".rows"


class DatasetFileMissing(NotFound):
    """The dataset's file is gone."""


class Incoming:
    """A dataset that is being received. Reading it back works after `finish`; nobody else can see it before `publish`."""

    def __init__(self, directory: Path, key: bytes, identity: uuid.UUID) -> None:
        self.identity = identity
        self._path = directory / f"{identity}{_PART}"
        self._final = directory / f"{identity}{_ROWS}"
        self._key = key
        self._file = self._path.open("xb")
        self._writer = SealedWriter(self._file, key, identity)

    def write(self, data: bytes) -> None:
        """Encrypt and append."""
        self._writer.write(data)

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        self._writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def read(self) -> Iterator[bytes]:
        """The table once more, for validation."""
        with self._path.open("rb") as file:
            yield from _table(file, self._key, self.identity)

    def publish(self) -> None:
        """Give the file its name, durably."""
        self._path.rename(self._final)
        _sync_directory(self._final.parent)

    def discard(self) -> None:
        """Leave nothing, published or not."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._final.unlink(missing_ok=True)


class DatasetStorage:
    """The data directory. Blocking work runs in threads."""

    def __init__(self, directory: Path, key: bytes) -> None:
        """`key` is 32 bytes, from the vault. Raises BadSettings when the directory cannot be used."""
        self._directory = directory
        self._key = key
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadSettings(f"the data directory {directory} cannot be made: {error.strerror}") from error
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise BadSettings(f"the data directory {directory} cannot be written")

    @asynccontextmanager
    async def receive(self, identity: uuid.UUID) -> AsyncIterator[Incoming]:
        """A place for an upload. Whatever goes wrong inside the block, nothing of it stays."""
        incoming = Incoming(self._directory, self._key, identity)
        try:
            yield incoming
        except BaseException:
            incoming.discard()
            raise

    def scratch(self) -> BinaryIO:
        """An open file without a name, on the disk of the datasets: nothing of it stays, whatever happens."""
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._directory))

    def read(self, identity: uuid.UUID) -> Iterator[bytes]:
        """A dataset's table, chunk by chunk: a CSV, or a Parquet file behind its frame. Raises DatasetFileMissing, DatasetUnreadable."""
        try:
            file = self._path(identity).open("rb")
        except FileNotFoundError as error:
            raise DatasetFileMissing(f"the file of dataset {identity} is gone") from error
        with file:
            yield from _table(file, self._key, identity)

    async def stream(self, identity: uuid.UUID) -> AsyncIterator[bytes]:
        """As `read`, off the event loop. The first chunk is checked before anything is given out."""
        chunks = self.read(identity)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk

    async def delete(self, identity: uuid.UUID) -> None:
        """Remove a dataset's file; nothing happens when it is gone."""
        await asyncio.to_thread(self._path(identity).unlink, missing_ok=True)

    def sweep(self, known: Collection[uuid.UUID]) -> int:
        """Remove what a kill left: unfinished uploads, and files that no row names. Returns how many."""
        wanted = {f"{identity}{_ROWS}" for identity in known}
        leftovers = [path for path in self._directory.iterdir() if path.suffix in (_PART, _ROWS) and path.name not in wanted]
        for path in leftovers:
            path.unlink()
        return len(leftovers)

    def _path(self, identity: uuid.UUID) -> Path:
        return self._directory / f"{identity}{_ROWS}"


def _table(file: BinaryIO, key: bytes, identity: uuid.UUID) -> Iterator[bytes]:
    """The plaintext, with its end repeated in front where it is Parquet: a reader that only goes forward starts there."""
    chunks = read_sealed(file, key, identity)
    first = next(chunks)
    if first.startswith(PARQUET):
        place = file.tell()
        size, last = read_end(file, key, identity, PARQUET_TRAILER)
        yield frame(size, read_end(file, key, identity, length_of_end(size, last))[1])
        file.seek(place)
    yield first
    yield from chunks


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
