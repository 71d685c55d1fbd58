"""A fresh, limited process for every job, so that no job sees another's data and none can starve the event loop.

Workers are started ahead of the work and wait on their standard input with the imports done: a job costs no start-up time, and each
still serves exactly one job. Where they run is `trainer.isolation`'s business. `JobLimits` holds what one may use (memory, processor time,
wall clock, output); going over ends that job alone. A worker's error output reaches no caller, because a traceback may quote data: the
error's class and places go to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from hessian.errors import HessianError, Malformed, Refused, Unavailable
from hessian.metrics import TRAINER_ADMITTED, TRAINER_SECONDS, timed
from trainer.isolation.worker import Isolation, Worker
from trainer.job import EXIT_OUT_OF_MEMORY, EXIT_REFUSED, Job

log = structlog.get_logger()
_READ_BYTES = 1 << 16
_ERROR_BYTES = 4096
_BROKEN_READER = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE)


class JobCrashed(HessianError):
    """A job's process ended without an answer; the trainer's log names the place."""


class JobLimitExceeded(Refused):
    """A job used more memory, processor time, wall-clock time or output than one job may."""

    status = 422


class TrainerBusy(Unavailable):
    """Every place for a job is taken and the queue is full; try again."""


class JobRefused(Malformed):
    """The job's input cannot be what it claims to be."""


class JobPool:
    """Runs jobs, at most `processes` at a time. Use as an async context manager: leaving it ends every worker."""

    def __init__(self, isolation: Isolation, *, processes: int, waiting: int) -> None:
        """`waiting` more jobs than `processes` may queue for a place."""
        self._isolation = isolation
        self._limits = isolation.limits
        self._processes = processes
        self._places = asyncio.Semaphore(processes)
        self._capacity = processes + waiting
        self._admitted = 0
        self._idle: list[Worker] = []
        self._running: set[Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._prepared_for: WeakKeyDictionary[Worker, bytes] = WeakKeyDictionary()
        self._drained = asyncio.Event()
        self._drained.set()

    async def __aenter__(self) -> JobPool:
        """Start the first workers. Raises IsolationUnavailable."""
        started = await asyncio.gather(*(self._begin() for _ in range(self._processes)), return_exceptions=True)
        for outcome in started:
            if isinstance(outcome, BaseException):
                await self.__aexit__()
                raise outcome
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill and reap every worker."""
        for worker in self._running:
            worker.kill()  # its job's own task reaps it
        await self._drained.wait()
        while self._starting:
            await asyncio.wait(self._starting)
        while self._idle:
            await self._idle.pop().end()

    async def check(self) -> None:
        """Raises TrainerBusy when a further job would be turned away."""
        if self._admitted >= self._capacity:
            raise TrainerBusy

    async def run(self, job: Job, header: bytes, body: AsyncIterator[bytes] | None = None) -> bytes:
        """Feed `header` and then `body` to a fresh process and return what it answers.

        Raises JobRefused (the worker's own sentence), JobLimitExceeded, JobCrashed, TrainerBusy, IsolationUnavailable; an error of `body`
        itself passes through.
        """
        await self.check()
        self._admitted += 1
        TRAINER_ADMITTED.inc()
        try:
            async with self._places:
                with timed(TRAINER_SECONDS, kind=job.value):
                    return await self._run(job, header, body)
        finally:
            self._admitted -= 1
            TRAINER_ADMITTED.dec()

    async def prepare(self, header: bytes) -> None:
        """Let the worker that takes the next job make ready for one of this model; it still serves exactly one job."""
        while not self._idle and self._starting:
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)
        worker = next((worker for worker in self._idle if not worker.has_ended), None)
        if worker is not None and self._prepared_for.get(worker) != header:
            self._prepared_for[worker] = header
            with contextlib.suppress(ConnectionError):  # one that has ended meanwhile is found by whoever takes it
                await worker.feed(_framed(Job.PREPARATION, header))

    async def _run(self, job: Job, header: bytes, body: AsyncIterator[bytes] | None) -> bytes:
        worker = await self._take()
        self._running.add(worker)
        self._drained.clear()
        try:
            async with asyncio.timeout(self._limits.wall_seconds):
                code, output, errors = await self._converse(worker, job, header, body)
        except TimeoutError as error:
            raise JobLimitExceeded(f"the job was stopped after {self._limits.wall_seconds:g} s") from error
        finally:
            try:
                await worker.end()
            finally:
                self._running.discard(worker)
                if not self._running:
                    self._drained.set()
        if code == 0:
            return output
        raise self._failure(code, output, errors, job)

    async def _converse(self, worker: Worker, job: Job, header: bytes, body: AsyncIterator[bytes] | None) -> tuple[int, bytes, bytes]:
        """Exit code, standard output, the start of the error output. The three streams move at once: none can block another."""
        try:
            async with asyncio.TaskGroup() as tasks:
                errors = tasks.create_task(_read_up_to(worker.errors, _ERROR_BYTES, keep_reading=True))
                output = tasks.create_task(self._read_output(worker))
                tasks.create_task(_feed(worker, job, header, body))
        except* HessianError as group:
            raise _first(group) from group
        return await worker.wait(), output.result(), errors.result()

    async def _take(self) -> Worker:
        """A worker that still waits for its one job; a replacement is made ready while this one works."""
        while (worker := await self._waiting()) is None:
            await asyncio.shield(self._begin())
        while len(self._idle) + len(self._starting) < self._processes:
            self._begin()
        return worker

    async def _waiting(self) -> Worker | None:
        while self._idle:
            worker = self._idle.pop(0)  # the one that has had most time to get ready
            if not worker.has_ended:
                return worker
            await worker.end()  # something outside killed it while it waited
        return None

    def _begin(self) -> asyncio.Task[None]:
        """Another waiting worker, sooner or later. Nobody cancels the task; its failure is logged, and raised to whoever awaits it."""
        task = asyncio.create_task(self._start(), name="worker")
        self._starting.add(task)
        task.add_done_callback(self._begun)
        return task

    async def _start(self) -> None:
        self._idle.append(await self._isolation.start())

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("worker_not_started", isolation=self._isolation.name, reason=str(error))

    async def _read_output(self, worker: Worker) -> bytes:
        output = await _read_up_to(worker.output, self._limits.output_bytes + 1, keep_reading=False)
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


async def _feed(worker: Worker, job: Job, header: bytes, body: AsyncIterator[bytes] | None) -> None:
    """Write the job to the worker's standard input. One that ended early is judged by its exit code, not here."""
    with contextlib.suppress(ConnectionError):
        await worker.feed(_framed(job, header))
        if body is not None:
            async for chunk in body:
                await worker.feed(chunk)
        await worker.close_input()


def _framed(job: Job, header: bytes) -> bytes:
    return f"{job.value} {len(header)}\n".encode() + header


async def _read_up_to(stream: asyncio.StreamReader, limit: int, *, keep_reading: bool) -> bytes:
    """At most `limit` bytes; with `keep_reading` the rest is read and dropped, so that the writer does not block."""
    kept = bytearray()
    while chunk := await stream.read(_READ_BYTES):
        kept += chunk[: limit - len(kept)]
        if len(kept) == limit and not keep_reading:
            break
    return bytes(kept)


def _first(group: BaseExceptionGroup[HessianError]) -> HessianError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
