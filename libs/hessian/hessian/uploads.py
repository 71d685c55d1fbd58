"""An uploaded table as CSV, whatever it came as. Parquet is decoded by a process of its own, because damaged files break decoders.

That process gets the bytes on its standard input, has nothing but them (`confinement`: limits, then imports, then the system call filter,
then the first byte), and writes CSV to its standard output; what it refuses it says on its error output. A process that breaks is a file
that is refused, and nothing else breaks with it.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import csv
import importlib
import io
import json
import os
import subprocess
import sys
import zoneinfo
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import chain
from typing import BinaryIO, TypeVar, cast

from hessian.confinement import filter as calls
from hessian.confinement.limits import confine, environment
from hessian.errors import Malformed, TooLarge, Unavailable
from hessian.learning.formats import MAGIC

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 600
PROGRAM = ("-I", "-B", "-m", "hessian.uploads")
AT_ONCE = 2
WAITING = 8
_EXIT_REFUSED = 3
_EXIT_UNCONFINED = 4
_READ_BYTES = 1 << 16


class UploadUnreadable(Malformed):
    """The file cannot be read as the table it begins as."""


class DecodedTooLarge(TooLarge):
    """Decoded, the file holds more text than this node takes."""


class DecoderUnavailable(Unavailable):
    """This machine's kernel takes no system call filter, so Parquet is not decoded here: send CSV."""


class UploadsBusy(Unavailable):
    """As many tables are being read as this node reads at a time, and more wait: upload again later."""


ReadT = TypeVar("ReadT")


class UploadPlaces:
    """A few uploaded tables are read and stored at the same time, on threads of their own; a few more wait, who comes then is sent away.

    So neither memory, connections nor the threads that everything else needs run out, however many uploads come.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="upload")
        self._turns = asyncio.Semaphore(at_once)
        self._free = at_once + waiting

    def require_one(self) -> None:
        """Raises UploadsBusy: to be asked before a body is taken."""
        if not self._free:
            raise UploadsBusy

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place, when it is one's turn. Raises UploadsBusy."""
        self.require_one()
        self._free -= 1
        try:
            async with self._turns:
                yield
        finally:
            self._free += 1

    async def run(self, read: Callable[[], ReadT]) -> ReadT:
        """What `read` returns, run beside the event loop. The caller has a place."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)


def as_csv(chunks: Iterable[bytes], *, largest: int | None = None) -> Generator[bytes, None, None]:
    """The table's CSV: the chunks themselves, or what a confined process makes of a Parquet file behind its frame, `largest` bytes at most.

    Raises UploadUnreadable, DecodedTooLarge, DecoderUnavailable; errors of `chunks` pass through.
    """
    rest = iter(chunks)
    first = b""
    while len(first) < len(MAGIC) and (chunk := next(rest, None)) is not None:
        first += chunk
    stream = chain([first], rest)
    yield from _at_most(largest, _decoded(stream)) if first.startswith(MAGIC) else stream


def _at_most(largest: int | None, decoded: Generator[bytes, None, None]) -> Generator[bytes]:
    size = 0
    with contextlib.closing(decoded):  # its process ends with it
        for block in decoded:
            size += len(block)
            if largest is not None and size > largest:
                raise DecodedTooLarge(f"the Parquet file holds more than {largest >> 20} MiB of text: send fewer rows")
            yield block


def _decoded(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    command = (sys.executable, *PROGRAM, str(MEMORY_BYTES), str(CPU_SECONDS), str(os.getpid()))
    with (
        subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd="/"
        ) as process,
        ThreadPoolExecutor(2) as threads,
    ):
        source, answer, complaint = (cast(BinaryIO, pipe) for pipe in (process.stdin, process.stdout, process.stderr))
        try:
            fed = threads.submit(_feed, source, chunks)
            said = threads.submit(complaint.read)
            while block := answer.read(_READ_BYTES):
                yield block
            fed.result()
            code, words = process.wait(), said.result()
        finally:
            process.kill()  # whoever asked may have stopped asking
        if code == _EXIT_REFUSED:
            raise UploadUnreadable(json.loads(words))
        if code == _EXIT_UNCONFINED:
            raise DecoderUnavailable
        if code != 0:
            raise UploadUnreadable("the file is damaged, or larger than this node can decode: reading it broke the process that tried")


def _feed(target: BinaryIO, chunks: Iterator[bytes]) -> None:
    """A process that ended early is judged by its exit code, not here."""
    with contextlib.suppress(BrokenPipeError), target:
        for chunk in chunks:
            target.write(chunk)


def main(arguments: list[str], source: BinaryIO, answer: BinaryIO, complaint: BinaryIO) -> int:
    """The confined process: a framed Parquet file in, CSV out; the exit code."""
    memory_bytes, cpu_seconds, parent = map(int, arguments)
    confine(memory_bytes, cpu_seconds, parent)

    from hessian.learning.tables import read_table  # after the limits

    _zones = _load_what_is_loaded_when_first_used()
    try:
        calls.narrow()
    except OSError:
        return _EXIT_UNCONFINED
    header = None
    try:
        for batch in read_table(iter(lambda: source.read(1 << 20), b"")):
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            if header is None:
                header = list(batch.columns)
                writer.writerow(header)
            writer.writerows(zip(*batch.columns.values(), strict=True))
            answer.write(text.getvalue().encode())
    except Malformed as refusal:
        complaint.write(json.dumps(refusal.sentence).encode())
        return _EXIT_REFUSED
    return 0


def _load_what_is_loaded_when_first_used() -> list[zoneinfo.ZoneInfo]:
    """No file can be opened any more once the filter holds. Time zones stay loaded for as long as somebody holds them."""
    codecs.lookup("utf-8-sig")
    importlib.import_module("numpy.ma")
    return [zoneinfo.ZoneInfo(name) for name in zoneinfo.available_timezones()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer))
