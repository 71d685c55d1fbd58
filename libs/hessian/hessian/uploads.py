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
import selectors
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from typing import BinaryIO, TypeVar, cast

from hessian.confinement import filter as calls
from hessian.confinement.limits import confine, environment
from hessian.errors import Malformed, TooLarge, Unavailable
from hessian.learning.formats import MAGIC

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 600
SILENT_SECONDS = 300.0
PROGRAM = ("-I", "-B", "-m", "hessian.uploads")
AT_ONCE = 2
WAITING = 8
_EXIT_REFUSED = 3
_EXIT_UNCONFINED = 4
_READ_BYTES = 1 << 16
_COMPLAINT_BYTES = 1 << 14


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

    So neither memory, connections nor the threads that everything else needs run out, however many uploads come. A place is taken before a
    body that memory has to hold, a turn after it.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="upload")
        self._turns = asyncio.Semaphore(at_once)
        self._free = at_once + waiting

    def require_one(self) -> None:
        """Raises UploadsBusy: to be asked before a body is taken."""
        if not self._free:
            raise UploadsBusy

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places. Raises UploadsBusy."""
        self.require_one()
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until it is one's turn. The caller has a place."""
        async with self._turns:
            yield

    async def run(self, read: Callable[[], ReadT]) -> ReadT:
        """What `read` returns, run beside the event loop. It is the caller's turn."""
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
        source, complaint = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stderr)
        answer = cast(io.BufferedReader, process.stdout)
        try:
            fed = threads.submit(_feed, source, chunks)
            said = threads.submit(complaint.read, _COMPLAINT_BYTES)
            while block := _next_block(answer):
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


def _next_block(answer: io.BufferedReader) -> bytes:
    """What the process wrote next; empty when it has ended. Raises UploadUnreadable for one that neither writes nor ends: waiting costs no
    processor time, so no other limit would ever reach it."""
    with selectors.DefaultSelector() as selector:
        selector.register(answer, selectors.EVENT_READ)
        if not selector.select(SILENT_SECONDS):
            raise UploadUnreadable(f"reading the file came to a stop: nothing for {SILENT_SECONDS:g} s")
    return answer.read1(_READ_BYTES)


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

    # Python and numpy look for these when they are first used, and by then no file can be opened any more
    codecs.lookup("utf-8-sig")
    importlib.import_module("numpy.ma")
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer))
