"""The entry of a job's process: limits, then imports, then the system call filter, then one job from standard input to standard output.

Started as `python -I -B -m trainer.job <memory> <cpu> <parent>`; parent 0 where its sandbox dies with the trainer by itself. Standard
input is one line `<job> <header length>`, the header (JSON) and, for statistics, the rows: CSV, or Parquet behind its frame. A preparation
may come first, and is kept for that one job. The exit code tells how it ended: 0 with the answer, EXIT_REFUSED with the reason as JSON,
anything else with the error's class and places (never its message: it may quote a row) on standard error.
"""

from __future__ import annotations

import codecs
import importlib
import json
import sys
import traceback
from enum import StrEnum
from types import TracebackType
from typing import BinaryIO

from hessian.confinement.limits import confine

EXIT_REFUSED = 3
EXIT_OUT_OF_MEMORY = 4


class Job(StrEnum):
    """What a process can be asked for."""

    STATISTICS = "statistics"
    GRADIENT_STEP = "gradient-step"
    SCORE_QUERY = "score-query"
    PREPARATION = "preparation"  # answers nothing: the process waits for its one job


def main(arguments: list[str], source: BinaryIO, answer: BinaryIO) -> int:
    """Run one job and return the exit code."""
    memory_bytes, cpu_seconds, parent = (int(argument) for argument in arguments)
    sys.excepthook = _tell_place_only
    confine(memory_bytes, cpu_seconds, parent)

    # after the limits, and before the job arrives: a waiting interpreter has these ready
    from hessian.confinement import filter as calls
    from hessian.errors import HessianError
    from trainer import gradient, score, statistics
    from trainer.isolation.worker import READY

    # Python and numpy look for these when they are first used, and by then no file can be opened any more
    codecs.lookup("utf-8-sig")
    importlib.import_module("numpy.ma")
    calls.narrow()
    answer.write(READY)
    answer.flush()
    prepared = None
    while first := source.readline():
        name, length = first.decode().split()
        header = source.read(int(length))
        if Job(name) is not Job.PREPARATION:
            break
        prepared = gradient.prepare(json.loads(header))
    else:  # the pool closed: nothing to do
        return 0
    try:
        wanted = json.loads(header)
        match Job(name):
            case Job.STATISTICS:
                result = statistics.run(wanted, source)
            case Job.SCORE_QUERY:
                result = score.run(wanted)
            case _:
                result = gradient.run(wanted, prepared)
    except HessianError as refusal:
        answer.write(json.dumps({"reason": type(refusal).__name__, "sentence": refusal.sentence}).encode())
        return EXIT_REFUSED
    except MemoryError:
        return EXIT_OUT_OF_MEMORY
    answer.write(result)
    return 0


def _tell_place_only(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(trace)))
    print(f"{kind.__name__} in {places}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
