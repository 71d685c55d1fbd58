"""What a process may use that reads bytes nobody vouches for: set from inside, before anything else is imported (Linux, macOS)."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

OPEN_FILES = 64
_PR_SET_PDEATHSIG = 1


def confine(memory_bytes: int, cpu_seconds: int, parent: int) -> None:
    """No more address space and processor time than this, few files, none of them written, no dump; and it ends with its `parent`.

    Parent 0: whatever it runs in ends with the parent by itself.
    """
    if parent:
        _end_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def environment() -> dict[str, str]:
    """What such a process sees: nothing of its parent's. Its linear algebra has one thread; memory comes from the system's allocator,
    because others reserve more address space than a limit leaves."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", **one_thread}


def _end_with(parent: int) -> None:
    """On Linux the kernel ends this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
