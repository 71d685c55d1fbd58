"""The entry of a job's process: limits, then imports, then the system call filter, then one job from standard input to standard output.

Started as `python -I -B -m trainer.job <memory> <cpu> <parent>`; parent 0 where its sandbox dies with the trainer by itself. Standard
input is one line `<job> <header length>`, the header (JSON) and, for statistics, the rows as CSV. The exit code tells how it ended: 0 with
the answer, EXIT_REFUSED with the reason as JSON, anything else with the error's class and places (never its message: it may quote a row)
on standard error.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from enum import StrEnum
from types import TracebackType
from typing import BinaryIO

EXIT_REFUSED = 3
EXIT_OUT_OF_MEMORY = 4
OPEN_FILES = 64
_PR_SET_PDEATHSIG = 1


class Job(StrEnum):
    """What a process can be asked for."""

    STATISTICS = "statistics"
    GRADIENT_STEP = "gradient-step"


def main(arguments: list[str], source: BinaryIO, answer: BinaryIO) -> int:
    """Run one job and return the exit code."""
    memory_bytes, cpu_seconds, parent = (int(argument) for argument in arguments)
    sys.excepthook = _tell_place_only
    _die_with_parent(parent)
    _limit(memory_bytes, cpu_seconds)

    # after the limits, and before the job arrives: a waiting interpreter has these ready
    from hessian.errors import HessianError
    from trainer import gradient, statistics
    from trainer.isolation import filter as calls
    from trainer.isolation.worker import READY

    codecs.lookup("utf-8-sig")  # how rows are read; Python looks for it when it is first used, and by then no file can be opened any more
    calls.narrow()
    answer.write(READY)
    answer.flush()
    first = source.readline()
    if not first:  # the pool closed: nothing to do
        return 0
    name, length = first.decode().split()
    header = source.read(int(length))
    try:
        wanted = json.loads(header)
        result = statistics.run(wanted, source) if Job(name) is Job.STATISTICS else gradient.run(wanted)
    except HessianError as refusal:
        answer.write(json.dumps({"reason": type(refusal).__name__, "sentence": refusal.sentence}).encode())
        return EXIT_REFUSED
    except MemoryError:
        return EXIT_OUT_OF_MEMORY
    answer.write(result)
    return 0


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    """No more memory, time, files or dumps than one job may have; a job writes no file at all."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _die_with_parent(parent: int) -> None:
    """On Linux the kernel ends this process when the trainer dies, however it dies."""
    if sys.platform == "linux" and parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _tell_place_only(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(trace)))
    print(f"{kind.__name__} in {places}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
