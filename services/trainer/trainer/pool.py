"""A fresh, limited process for every job, so that no job sees another's data and none can starve the event loop.

Interpreters are started ahead of the work and wait on their standard input with the imports done: a job costs no start-up time, and each
process still serves exactly one job. `JobLimits` holds what one may use (memory, processor time, wall clock, output); going over ends that
job alone. A child's error output reaches no caller, because a traceback may quote data: the error's class and places go to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from hessian.confinement import environment
from hessian.errors import HessianError, Malformed, Refused, Unavailable
from trainer.job import EXIT_OUT_OF_MEMORY, EXIT_REFUSED, Job

log = structlog.get_logger()
_READ_BYTES = 1 << 16
_ERROR_BYTES = 4096
_BROKEN_READER = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE)
PROGRAM = ("-I", "-m", "trainer.job")


class JobCrashed(HessianError):
    """A job's process ended without an answer; the trainer's log names the place."""


class JobLimitExceeded(Refused):
    """A job used more memory, processor time, wall-clock time or output than one job may."""

    status = 422


class TrainerBusy(Unavailable):
    """Every place for a job is taken and the queue is full; try again."""


class JobRefused(Malformed):
    """The job's input cannot be what it claims to be."""


@dataclass(frozen=True)
class JobLimits:
    """What one job may use. Bytes and seconds."""

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int


class JobPool:
    """Runs jobs, at most `processes` at a time. Use as an async context manager: leaving it ends every child."""

    def __init__(self, limits: JobLimits, *, processes: int, waiting: int, program: Sequence[str] = PROGRAM) -> None:
        """`waiting` more jobs than `processes` may queue for a place. `program` is what the interpreter runs: the test seam."""
        self._program = program
        self._limits = limits
        self._processes = processes
        self._places = asyncio.Semaphore(processes)
        self._capacity = processes + waiting
        self._admitted = 0
        self._idle: list[Process] = []
        self._running: set[Process] = set()
        self._prepared_for: WeakKeyDictionary[Process, bytes] = WeakKeyDictionary()
        self._drained = asyncio.Event()
        self._drained.set()

    async def __aenter__(self) -> JobPool:
        """Start the first interpreters."""
        for _ in range(self._processes):
            self._idle.append(await self._start())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill and reap every child."""
        for process in self._running:
            _kill(process)  # its job's own task reaps it
        await self._drained.wait()
        while self._idle:
            await _end(self._idle.pop())

    async def check(self) -> None:
        """Raises TrainerBusy when a further job would be turned away."""
        if self._admitted >= self._capacity:
            raise TrainerBusy

    async def run(self, job: Job, header: bytes, body: AsyncIterator[bytes] | None = None) -> bytes:
        """Feed `header` and then `body` to a fresh process and return what it answers.

        Raises JobRefused (the child's own sentence), JobLimitExceeded, JobCrashed, TrainerBusy; an error of `body` itself passes through.
        """
        await self.check()
        self._admitted += 1
        try:
            async with self._places:
                return await self._run(job, header, body)
        finally:
            self._admitted -= 1

    def prepare(self, header: bytes) -> None:
        """Let the process that takes the next job make ready for one of this model; it still serves exactly one job."""
        if not self._idle:
            return
        process = self._idle[-1]
        if process.stdin is not None and process.returncode is None and self._prepared_for.get(process) != header:
            self._prepared_for[process] = header
            process.stdin.write(_framed(Job.PREPARATION, header))

    async def _run(self, job: Job, header: bytes, body: AsyncIterator[bytes] | None) -> bytes:
        process = await self._take()
        self._running.add(process)
        self._drained.clear()
        try:
            async with asyncio.timeout(self._limits.wall_seconds):
                code, output, errors = await self._converse(process, job, header, body)
        except TimeoutError as error:
            raise JobLimitExceeded(f"the job was stopped after {self._limits.wall_seconds:g} s") from error
        finally:
            try:
                await _end(process)
            finally:
                self._running.discard(process)
                if not self._running:
                    self._drained.set()
        if code == 0:
            return output
        raise self._failure(code, output, errors, job)

    async def _converse(self, process: Process, job: Job, header: bytes, body: AsyncIterator[bytes] | None) -> tuple[int, bytes, bytes]:
        """Exit code, standard output, the start of the error output. The three streams move at once: none can block another."""
        try:
            async with asyncio.TaskGroup() as tasks:
                errors = tasks.create_task(_read_up_to(process.stderr, _ERROR_BYTES, keep_reading=True))
                output = tasks.create_task(self._read_output(process))
                tasks.create_task(_feed(process, job, header, body))
        except* HessianError as group:
            raise _first(group) from group
        return await process.wait(), output.result(), errors.result()

    async def _take(self) -> Process:
        """An interpreter that still waits for its one job; a replacement is made ready while this one works."""
        process = self._idle.pop() if self._idle else await self._start()
        if process.returncode is not None:  # something outside killed it while it waited
            process = await self._start()
        self._idle.append(await self._start())
        return process

    async def _start(self) -> Process:
        limits = self._limits
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *self._program,
            str(limits.memory_bytes),
            str(limits.cpu_seconds),
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )

    async def _read_output(self, process: Process) -> bytes:
        output = await _read_up_to(process.stdout, self._limits.output_bytes + 1, keep_reading=False)
        if len(output) > self._limits.output_bytes:
            raise JobLimitExceeded(f"the job's answer is larger than {self._limits.output_bytes} bytes")
        return output

    def _failure(self, code: int, output: bytes, errors: bytes, job: Job) -> HessianError:
        if code == EXIT_REFUSED:
            refusal: dict[str, Any] = json.loads(output)
            return JobRefused(str(refusal["sentence"]))
        where = errors.decode("utf-8", "replace").strip()
        log.error("job_failed", job=job.value, exit_code=code, where=where)
        if code == EXIT_OUT_OF_MEMORY:
            return JobLimitExceeded(f"the job needed more than {self._limits.memory_bytes} bytes of memory")
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return JobLimitExceeded(f"the job was stopped by a limit (memory, or {self._limits.cpu_seconds} s of processor time)")
        if job is Job.STATISTICS and code in _BROKEN_READER:
            return JobRefused("the file is damaged: reading it broke the process that did nothing else")
        return JobCrashed(f"the job's process ended with code {code}")


async def _feed(process: Process, job: Job, header: bytes, body: AsyncIterator[bytes] | None) -> None:
    """Write the job to the child's standard input. A child that ended early is judged by its exit code, not here."""
    assert process.stdin is not None  # noqa: S101 - opened as a pipe
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(_framed(job, header))
        await process.stdin.drain()
        if body is not None:
            async for chunk in body:
                process.stdin.write(chunk)
                await process.stdin.drain()
        process.stdin.write_eof()


def _framed(job: Job, header: bytes) -> bytes:
    return f"{job.value} {len(header)}\n".encode() + header


async def _read_up_to(stream: asyncio.StreamReader | None, limit: int, *, keep_reading: bool) -> bytes:
    """At most `limit` bytes; with `keep_reading` the rest is read and dropped, so that the writer does not block."""
    assert stream is not None  # noqa: S101 - opened as a pipe
    kept = bytearray()
    while chunk := await stream.read(_READ_BYTES):
        kept += chunk[: limit - len(kept)]
        if len(kept) == limit and not keep_reading:
            break
    return bytes(kept)


def _kill(process: Process) -> None:
    """End the child's whole session, if it still lives."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _end(process: Process) -> None:
    """Kill and reap. One caller per process: two cannot read its pipes at once."""
    _kill(process)
    await process.communicate()  # reads what is left: asyncio does not see the end of a process whose pipes are full


def _first(group: BaseExceptionGroup[HessianError]) -> HessianError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
