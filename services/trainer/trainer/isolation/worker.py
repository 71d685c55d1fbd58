"""The interface: an isolation starts workers; a worker is one process that waits with its imports done and serves exactly one job.

Whatever stands behind it, a worker has three streams and an exit code, its program is `trainer.job` under the same `JobLimits`, and `end`
leaves nothing of it behind.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hessian.confinement.limits import environment
from hessian.errors import Unavailable

PROGRAM = ("-I", "-B", "-m", "trainer.job")
"""What the interpreter runs: isolated from its environment and writing no byte code."""

ENVIRONMENT: Mapping[str, str] = MappingProxyType({name: value for name, value in environment().items() if name != "PATH"})
"""All that a job's environment holds beside PATH."""

READY = b"."
"""What a worker writes before it reads its job."""

_SHELL_SIGNAL = 128


class IsolationUnavailable(Unavailable):
    """A job's process cannot be started here."""


@dataclass(frozen=True)
class JobLimits:
    """What one job may use. Bytes and seconds."""

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int


class Worker(ABC):
    """One process. `output` and `errors` must be read, or it may block."""

    output: asyncio.StreamReader
    errors: asyncio.StreamReader

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether its end is known already: something outside may have killed it while it waited."""

    @abstractmethod
    async def feed(self, data: bytes) -> None:
        """Write to its standard input. Raises ConnectionError when nobody reads any more."""

    @abstractmethod
    async def close_input(self) -> None:
        """Nothing more will come. Raises ConnectionError when nobody reads any more."""

    @abstractmethod
    async def wait(self) -> int:
        """Its exit code; −n when signal n ended it. Raises IsolationUnavailable when that cannot be known."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, with everything it may have started; whoever runs its job reaps it."""

    @abstractmethod
    async def end(self) -> None:
        """Kill it, and return when nothing of it is left. One caller."""


class Isolation(ABC):
    """A way to start workers. `program` is what their interpreter runs: the test seam."""

    name: str

    def __init__(self, limits: JobLimits, *, program: Sequence[str] = PROGRAM) -> None:
        self.limits = limits
        self.program = tuple(program)

    async def start(self) -> Worker:
        """A worker that is ready: its sandbox is complete and its imports are done. Raises IsolationUnavailable with what it said instead.

        Not to be cancelled half-way: a sandbox that is still being made cannot be ended for certain.
        """
        worker = await self._begin()
        try:
            await worker.output.readexactly(len(READY))
        except asyncio.IncompleteReadError as error:
            lines = (await worker.errors.read()).decode("utf-8", "replace").strip().splitlines()
            raise IsolationUnavailable(lines[-1] if lines else f"it ended with code {await worker.wait()}") from error
        return worker

    @abstractmethod
    async def _begin(self) -> Worker:
        """A worker that may still be starting. Raises IsolationUnavailable."""

    async def prove(self) -> None:
        """Start one worker and end it. Raises IsolationUnavailable."""
        await (await self.start()).end()


def arguments_of(limits: JobLimits, parent: int) -> tuple[str, str, str]:
    """What `trainer.job` is told. `parent` 0: somebody else sees to it that no worker outlives its trainer."""
    return (str(limits.memory_bytes), str(limits.cpu_seconds), str(parent))


def exit_code(code: int) -> int:
    """128 + n is how a program that ran the worker for us says that signal n ended it."""
    return _SHELL_SIGNAL - code if code > _SHELL_SIGNAL else code
