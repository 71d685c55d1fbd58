"""Takes jobs from procrastinate's queue and sends them to the neighbours, several at a time, one per lock.

The queue wakes the worker (LISTEN/NOTIFY); the row in `jobs` is what people read and what decides whether an attempt still counts. A worker
that lost its process leaves a silent heartbeat: its entries are given back after a few seconds, here or by another coordinator.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

import procrastinate
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition, Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.worker import Worker
from psycopg_pool import PoolTimeout
from sqlalchemy import URL

from coordinator import queue, repository, serving, serving_repository
from coordinator.handlers import Handlers, Outcome
from coordinator.jobs import LONGEST_DELAY, JobKind, JobState, SetAside, delay, judge, priority_again
from coordinator.planner import superseded
from hessian import tracing
from hessian.errors import DatabaseUnavailable, HessianError, Unavailable
from hessian.identifiers import Timestamp
from hessian.metrics import JOB_LEASES_LOST, JOB_SECONDS, timed
from hessian.postgres.engine import Database
from hessian.postgres.session import Session

log = structlog.get_logger()

PICK_UP_SECONDS = 0.1
"""A retry and a lock set free send no notification: how long they may wait to be seen."""

GRACE_SECONDS = 5.0
QUEUE_POOL = 4


class AttemptFailed(Exception):  # a message to procrastinate, not an error of ours
    """Carries the delay before the next attempt to procrastinate, and its priority where that changes."""

    def __init__(self, seconds: float, priority: int | None) -> None:
        super().__init__(f"again in {seconds:g} s")
        self.seconds = seconds
        self.priority = priority


class _Again(BaseRetryStrategy):
    """Every entry goes back to the queue until its attempt ends well: whether that makes sense is decided before, by jobs.judge."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        seconds, priority = (exception.seconds, exception.priority) if isinstance(exception, AttemptFailed) else (delay(1), None)
        return RetryDecision(retry_in={"milliseconds": int(seconds * 1000)}, priority=priority)


class Dispatcher:
    """One worker of the queue."""

    def __init__(self, database: Database, url: URL, handlers: Handlers, *, concurrency: int, stalled_seconds: float) -> None:
        """`url` is the database's, with its password: procrastinate keeps a small pool of its own."""
        self._database = database
        self._handlers = handlers
        self._concurrency = concurrency
        self._stalled_seconds = stalled_seconds
        self._running: set[int] = set()
        self._forgotten: set[int] = set()
        self._worker: Worker | None = None
        conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connector = procrastinate.PsycopgConnector(conninfo=conninfo, min_size=1, max_size=QUEUE_POOL, kwargs={"connect_timeout": 10})
        self._app = procrastinate.App(connector=connector)
        self._app.task(name=queue.TASK, queue=queue.QUEUE, pass_context=True, retry=_Again())(self._dispatch)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then the attempts in flight get a grace period, and what they leave goes back to the queue.

        A lost database is waited for; anything else ends the process.
        """
        clock, failures = asyncio.get_running_loop().time, 0
        while not stop.is_set():
            begun = clock()
            try:
                await self._work(stop)
            except Unavailable as error:
                failures = 1 if clock() - begun > LONGEST_DELAY else failures + 1
                log.warning("dispatcher_waits", reason=type(error).__name__, detail=error.sentence, seconds=delay(failures))
                await _pause(stop, delay(failures))

    async def _work(self, stop: asyncio.Event) -> None:
        lost: BaseException | None = None
        try:
            async with self._app.open_async(), asyncio.TaskGroup() as tasks:
                async with self._database.begin() as session:
                    if jobs := await queue.defer_lost(session):
                        log.warning("jobs_queued_again", jobs=jobs)
                worker = self._worker = self._new_worker()
                working = tasks.create_task(worker.run(), name="worker")  # type: ignore[no-untyped-call]  # as below
                sweeping = tasks.create_task(self._sweep(stop), name="sweeper")
                stopping = tasks.create_task(stop.wait(), name="stop")
                await asyncio.wait({working, sweeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
                worker.stop()  # type: ignore[no-untyped-call]  # procrastinate's worker has no annotations
                await working
                sweeping.cancel()
                stopping.cancel()
        except* (ConnectorException, PoolTimeout, Unavailable) as group:
            lost = group
        if lost is not None:  # raised inside `except*` it would be one more group
            raise DatabaseUnavailable("the job queue lost its database") from lost
        if not stop.is_set():  # a side task of procrastinate failed: it logs that and stops without an error
            raise DatabaseUnavailable("the job queue's worker ended by itself")

    def _new_worker(self) -> Worker:
        return Worker(
            self._app,
            queues=[queue.QUEUE],
            concurrency=self._concurrency,
            fetch_job_polling_interval=PICK_UP_SECONDS,
            shutdown_graceful_timeout=GRACE_SECONDS,
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
            update_heartbeat_interval=self._stalled_seconds / 4,
            stalled_worker_timeout=self._stalled_seconds,
        )

    async def _sweep(self, stop: asyncio.Event) -> None:
        """Give back what nobody is at any more."""
        while not stop.is_set():
            async with self._database.begin() as session:
                released = await queue.release_vanished(session, self._stalled_seconds)
                released += await self._release_forgotten(session)
            if released:
                JOB_LEASES_LOST.inc(len(released))
                log.warning("jobs_given_back", entries=released)
            await _pause(stop, self._stalled_seconds / 4)

    async def _release_forgotten(self, session: Session) -> list[int]:
        worker_id = self._worker.worker_id if self._worker else None
        if worker_id is None:
            return []
        idle = await queue.held_by(session, worker_id) - self._running
        forgotten, self._forgotten = sorted(idle & self._forgotten), idle  # seen twice: not one that is just being reported
        if forgotten:
            await queue.release_forgotten(session, forgotten)
        return forgotten

    async def _dispatch(self, context: procrastinate.JobContext, job_id: int) -> None:
        """One attempt. What procrastinate calls."""
        entry = context.job.id or 0
        self._running.add(entry)
        try:
            await self._attempt(job_id)
        finally:
            self._running.discard(entry)

    async def _attempt(self, job_id: int) -> None:
        async with self._database.begin() as session:
            attempt = await queue.claim(session, job_id)
            if attempt is None:
                return
            reason = await _superseded(session, attempt)
            if reason is not None:
                await queue.move(session, attempt, JobState.DONE, f"superseded: {reason}", crashes=attempt.crashes)
                log.info("job_superseded", correlation_id=attempt.job.subject, job_id=job_id, kind=str(attempt.job.kind), reason=reason)
                return
        job = attempt.job
        with structlog.contextvars.bound_contextvars(correlation_id=job.subject, job_id=job_id, kind=str(job.kind)):
            async with _Record(self._database, attempt) as record:
                with timed(JOB_SECONDS, kind=str(job.kind)), tracing.span(f"job {job.kind}", subject=job.subject):
                    record.outcome = await self._handlers.do(job)


class _Record:
    """Writes down how an attempt ended, whatever ended it."""

    def __init__(self, database: Database, attempt: queue.Claim) -> None:
        self._database = database
        self._attempt = attempt
        self.outcome: Outcome | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        attempt = self._attempt
        if error is None:
            outcome = self.outcome or Outcome(JobState.DONE)
            await self._move(outcome.state, outcome.reason, crashes=attempt.crashes)
            return False
        if isinstance(error, asyncio.CancelledError):
            await self._move(JobState.PLANNED, "the coordinator stopped", crashes=attempt.crashes)
            return False
        verdict = judge(error, attempts=attempt.attempts, crashes=attempt.crashes)
        if isinstance(verdict, SetAside):
            details = None if isinstance(error, HessianError) else error
            log.error("job_set_aside", reason=verdict.reason, attempts=attempt.attempts, exc_info=details)
            await self._move(JobState.SET_ASIDE, verdict.reason, crashes=attempt.crashes)
            return True
        if verdict.is_crash:
            details = None if isinstance(error, HessianError) else error
            log.error("job_failed", reason=verdict.reason, attempts=attempt.attempts, exc_info=details)
        else:
            log.info("job_waits", reason=verdict.reason, attempts=attempt.attempts, seconds=verdict.seconds)
        await self._move(JobState.PLANNED, verdict.reason, crashes=attempt.crashes + verdict.is_crash)
        raise AttemptFailed(verdict.seconds, priority_again(attempt.job.kind, error)) from error

    async def _move(self, state: JobState, reason: str | None, *, crashes: int) -> None:
        async with self._database.begin() as session:
            is_ours = await queue.move(session, self._attempt, state, reason, crashes=crashes)
        log.info("job_moved" if is_ours else "job_moved_by_others", state=str(state), reason=reason, attempts=self._attempt.attempts)


async def _superseded(session: Session, attempt: queue.Claim) -> str | None:
    job = attempt.job
    if job.kind is JobKind.ANNOUNCE_MODEL and await queue.has_newer(session, attempt):
        return "a newer announcement waits"
    if job.request_id is not None:
        asked = await serving_repository.load_request(session, job.request_id)
        return None if asked is None else serving.superseded(job, asked)
    cursor = await repository.read_cursor(session)
    model = await repository.load_model(session, job.model_id, cohort_id=job.cohort_id, round_id=job.round_id)
    if cursor is None or model is None:
        return None
    return superseded(job, model, Timestamp(cursor.timestamp))


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
