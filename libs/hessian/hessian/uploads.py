"""An uploaded table as CSV, whatever it came as. Parquet is decoded by a process of its own, because damaged files break decoders.

That process gets the bytes on its standard input, has nothing but them (`confinement`), and writes CSV to its standard output; what it
refuses it says on its error output. A process that breaks is a file that is refused, and nothing else breaks with it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import BinaryIO, cast

from hessian.confinement import confine, environment
from hessian.errors import Malformed
from hessian.learning.formats import MAGIC

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 600
_EXIT_REFUSED = 3
_READ_BYTES = 1 << 16


class UploadUnreadable(Malformed):
    """The file cannot be read as the table it begins as."""


def as_csv(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The table's CSV: the chunks themselves, or what a confined process makes of a Parquet file behind its frame.

    Raises UploadUnreadable; errors of `chunks` pass through.
    """
    rest = iter(chunks)
    first = b""
    while len(first) < len(MAGIC) and (chunk := next(rest, None)) is not None:
        first += chunk
    stream = chain([first], rest)
    yield from _decoded(stream) if first.startswith(MAGIC) else stream


def _decoded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    command = (sys.executable, "-I", "-m", "hessian.uploads", str(MEMORY_BYTES), str(CPU_SECONDS), str(os.getpid()))
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
