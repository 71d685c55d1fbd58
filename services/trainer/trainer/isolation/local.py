"""The backend `process`: a child of the trainer under resource limits, which holds itself to the system calls of its work.

On Linux (x86-64, arm64) the kernel keeps it to that list before it reads a byte of its job. Elsewhere the limits are all there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence

from trainer.isolation.worker import ENVIRONMENT, Isolation, IsolationUnavailable, Worker, arguments_of, exit_code


class LocalWorker(Worker):
    """A child process and its session."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - all three are opened as pipes
        assert process.stdout is not None  # noqa: S101 - see above
        assert process.stderr is not None  # noqa: S101 - see above
        self._process = process
        self._input, self.output, self.errors = process.stdin, process.stdout, process.stderr

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the child has been reaped."""
        return self._process.returncode is not None

    async def feed(self, data: bytes) -> None:
        """Write to its standard input, no faster than it reads."""
        self._input.write(data)
        await self._input.drain()

    async def close_input(self) -> None:
        """Close its standard input."""
        self._input.write_eof()

    async def wait(self) -> int:
        """Its exit code."""
        return exit_code(await self._process.wait())

    def kill(self) -> None:
        """Kill its whole session, if it still lives."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill and reap."""
        self.kill()
        await self._process.communicate()  # reads what is left: asyncio does not see the end of a process whose pipes are full


async def start_child(command: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = ()) -> LocalWorker:
    """Nothing of this service's environment and none of its open files reach the child. Raises IsolationUnavailable."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=dict(environment), cwd="/", start_new_session=True, pass_fds=pass_fds
        )
    except OSError as error:
        raise IsolationUnavailable(f"{command[0]} cannot be started: {error.strerror}") from error
    return LocalWorker(process)


class ProcessIsolation(Isolation):
    """Children of this process."""

    name = "process"

    async def _begin(self) -> LocalWorker:
        """A child that dies with this process."""
        command = [sys.executable, *self.program, *arguments_of(self.limits, os.getpid())]
        return await start_child(command, {"PATH": os.defpath, **ENVIRONMENT})
