"""How things are timed: processor time, medians, and a fresh process for every measurement so that its peak memory is its own.

Processor time is not all: the same instructions take up to twice as long while others use the machine's caches, its other threads or its
clock. So a fixed piece of arithmetic is timed between repetitions, and ratios are taken between times in that unit.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import gmpy2

R = TypeVar("R")

MEGABYTE = 1e6
_ODD, _EXPONENT = (1 << 2048) - 1942289, (1 << 512) - 1
_paces: list[float] = []  # of this process: one measurement has it to itself


@dataclass(frozen=True)
class Measured(Generic[R]):
    """What a task returned; the peak resident bytes of its process, interpreter and imports included; what the fixed piece of arithmetic
    took meanwhile, in processor seconds."""

    result: R
    peak_bytes: int
    pace: float


def cpu_seconds(task: Callable[[], object], repeats: int) -> float:
    """Median processor time of one call over `repeats` calls, all threads of this process together."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
        _paces.append(_pace())
    return statistics.median(times)


def in_fresh_process(task: Callable[..., R], *args: object) -> Measured[R]:
    """task(*args), which calls `cpu_seconds`, in a process of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, task, args).result()


def _measured(task: Callable[..., R], args: tuple[object, ...]) -> Measured[R]:
    result = task(*args)
    return Measured(result, _peak_bytes(), statistics.median(_paces))


def _pace() -> float:
    start = time.process_time()
    gmpy2.powmod(3, _EXPONENT, _ODD)
    return time.process_time() - start


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # Linux: of this program alone; `ru_maxrss` would remember the parent's
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
