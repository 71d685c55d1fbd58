"""The independent pieces of one job on several cores: forked helpers inside the job's own session and limits (docs/decisions).

A helper is a copy of the job's process made after its tables: it inherits what the job knows, serves this one job and ends with it. The
limits of a job hold for its processes together: address space and the processor time that is left are divided among them before they
start, and the pool's kill reaches the whole session. Randomness is the operating system's, so copies do not repeat each other's.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hessian.confinement import confine, end_with
from hessian.paillier.ciphertext import Spread, in_turn

_UNLIMITED = resource.RLIM_INFINITY
_FAILED, _OUT_OF_MEMORY = 1, 2


class HelperFailed(RuntimeError):
    """A helper ended without its results; its own line of the log names the place."""


def spread_over(cores: int) -> Spread:
    """A `Spread` over at most `cores` processes, this one among them: fewer where pieces or address space do not reach. Linux only."""
    if cores < 2 or sys.platform != "linux":
        return in_turn

    def spread(task: Callable[[int], int], count: int) -> list[int]:
        workers = min(cores, count, _processes_that_fit())
        if workers < 2:
            return in_turn(task, count)
        results: dict[int, int] = {}
        with _limits_divided_by(workers) as limits:
            helpers = [_start(task, range(first, count, workers), limits) for first in range(1, workers)]
            for index in range(0, count, workers):
                results[index] = task(index)
            for pid, source in helpers:
                results |= _collect(pid, source)
        if len(results) != count:
            raise HelperFailed
        return [results[index] for index in range(count)]

    return spread


def _processes_that_fit() -> int:
    """How many copies of this process the limit on address space holds."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == _UNLIMITED:
        return sys.maxsize
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return limit // (pages * resource.getpagesize())


@contextmanager
def _limits_divided_by(workers: int) -> Iterator[tuple[int, int]]:
    """(address space, processor seconds) of each process; this one's own limits are lowered to that meanwhile."""
    memory, cpu = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    memory_share = memory[0] if memory[0] == _UNLIMITED else memory[0] // workers
    cpu_share = cpu[0] if cpu[0] == _UNLIMITED else max(1, (cpu[0] - used) // workers)
    resource.setrlimit(resource.RLIMIT_AS, (memory_share, memory[1]))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu[0] if cpu_share == _UNLIMITED else used + cpu_share, cpu[1]))
    try:
        yield memory_share, cpu_share
    finally:
        resource.setrlimit(resource.RLIMIT_AS, memory)
        resource.setrlimit(resource.RLIMIT_CPU, cpu)


def _start(task: Callable[[int], int], indices: range, limits: tuple[int, int]) -> tuple[int, int]:
    """Fork one helper: (its process id, where its results are read). It never returns from here."""
    source, sink = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(sink)
        return pid, source
    code = _FAILED
    try:
        os.close(source)
        _confine_helper(*limits, parent)
        with os.fdopen(sink, "w", encoding="ascii") as answer:
            for index in indices:
                answer.write(f"{index} {task(index):x}\n")
        code = 0
    except MemoryError:
        code = _OUT_OF_MEMORY
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(code)  # no frame above runs twice, nothing is flushed twice


def _confine_helper(memory: int, cpu_seconds: int, parent: int) -> None:
    if cpu_seconds == _UNLIMITED:
        end_with(parent)
    else:
        confine(memory, cpu_seconds, parent)


def _collect(pid: int, source: int) -> dict[int, int]:
    """A helper's results. A helper that a limit ended ends this process in the same way: the job has gone over its limit."""
    with os.fdopen(source, encoding="ascii") as answer:
        lines = answer.read().splitlines()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    if os.WEXITSTATUS(status) == _OUT_OF_MEMORY:
        raise MemoryError
    if status != 0:
        raise HelperFailed
    return {int(index): int(value, 16) for index, value in (line.split() for line in lines)}
