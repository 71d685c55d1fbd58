"""How things are timed: processor time, medians, and a fresh process for every measurement so that its peak memory is its own."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

R = TypeVar("R")

MEGABYTE = 1e6


def cpu_seconds(task: Callable[[], object], repeats: int) -> float:
    """Median processor time of one call over `repeats` calls, all threads of this process together."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return statistics.median(times)


def in_fresh_process(task: Callable[..., R], *args: object) -> tuple[R, int]:
    """(what task(*args) returned, the peak resident bytes of the process that ran it, interpreter and imports included)."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_peak, task, args).result()


def _with_peak(task: Callable[..., R], args: tuple[object, ...]) -> tuple[R, int]:
    result = task(*args)
    return result, _peak_bytes()


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # Linux: of this program alone; `ru_maxrss` would remember the parent's
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
