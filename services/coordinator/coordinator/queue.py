"""SQL of the jobs: our readable row and procrastinate's queue entry are written together, in the caller's transaction.

`attempts` is the fence: an attempt may move its job only while no later attempt has begun.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert

from coordinator.jobs import CRASH_LIMIT, PRIORITY, JobSpec, JobState, instead_of, origins
from coordinator.tables import Job
from hessian.errors import Conflict, NotFound
from hessian.postgres.session import Session

QUEUE = "coordinator"
TASK = "dispatch"

_DEFER = text(
    """
    SELECT procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW(CAST(:queue AS varchar), CAST(:task AS varchar), job.priority, job.lock, NULL, job.args, NULL)
               ::procrastinate_job_to_defer_v1
        FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS job(priority int, lock text, args jsonb)))
    """
)
_STALLED = """
    UPDATE procrastinate_jobs AS job SET status = 'todo', attempts = attempts + 1, scheduled_at = now(), worker_id = NULL
    WHERE status = 'doing' AND queue_name = :queue AND {condition} RETURNING id
"""
_VANISHED = text(
    _STALLED.format(
        condition="""NOT EXISTS (SELECT 1 FROM procrastinate_workers AS worker
                     WHERE worker.id = job.worker_id AND worker.last_heartbeat > now() - make_interval(secs => :seconds))"""
    )
)
_FORGOTTEN = text(_STALLED.format(condition="id = ANY(:ids)"))
_MINE = text("SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = :worker")
_LOST = text(
    """
    SELECT id FROM jobs WHERE state IN ('planned', 'dispatched') AND NOT EXISTS (
        SELECT 1 FROM procrastinate_jobs AS entry
        WHERE entry.status IN ('todo', 'doing') AND (entry.args ->> 'job_id')::bigint = jobs.id)
    ORDER BY id FOR UPDATE SKIP LOCKED
    """
)


class JobUnknown(NotFound):
    """There is no such job."""


class JobNotSetAside(Conflict):
    """Only a job that was set aside can be tried again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt at one job."""

    job_id: int
    job: JobSpec
    attempts: int
    crashes: int


async def plan_jobs(session: Session, specs: Iterable[JobSpec]) -> list[int]:
    """Plan what is new among `specs`; the ids of those."""
    by_key = {spec.business_key: spec for spec in specs}
    if not by_key:
        return []
    rows = [{"business_key": key, **_columns(spec)} for key, spec in by_key.items()]
    planned = await session.execute(
        insert(Job).values(rows).on_conflict_do_nothing(index_elements=["business_key"]).returning(Job.id, Job.business_key)
    )
    entries = {row.id: by_key[row.business_key] for row in planned}
    await _defer(session, entries)
    return sorted(entries)


async def claim(session: Session, job_id: int) -> Claim | None:
    """Begin an attempt; None when the job is over. One whose attempts keep vanishing with their process is set aside instead."""
    row = (await session.execute(select(Job).where(Job.id == job_id).with_for_update())).scalar_one_or_none()
    if row is None or row.state not in origins(JobState.DISPATCHED):
        return None
    if row.state is JobState.DISPATCHED:  # the attempt before this one never came to its end
        row.crashes += 1
        if row.crashes >= CRASH_LIMIT:
            row.state, row.reason = JobState.SET_ASIDE, f"the coordinator ended {row.crashes} times while it did this"
            await _plan_instead(session, spec_of(row))
            return None
    row.state = JobState.DISPATCHED
    row.attempts += 1
    return Claim(row.id, spec_of(row), row.attempts, row.crashes)


async def has_newer(session: Session, attempt: Claim) -> bool:
    """Whether a later job asks the same of the same neighbour about the same model, and has not begun."""
    job = attempt.job
    same = (Job.kind == job.kind, Job.service == job.service, Job.model_id == job.model_id)
    query = select(Job.id).where(*same, Job.id > attempt.job_id, Job.state == JobState.PLANNED).limit(1)
    return (await session.execute(query)).scalar_one_or_none() is not None


async def move(session: Session, attempt: Claim, target: JobState, reason: str | None, *, crashes: int) -> bool:
    """Move the job from this attempt to `target`: the one way a state changes. False when a later attempt has begun or it is over."""
    moved = await session.execute(
        update(Job)
        .where(Job.id == attempt.job_id, Job.attempts == attempt.attempts, Job.state.in_(origins(target)))
        .values(state=target, reason=reason, crashes=crashes)
        .returning(Job.id)
    )
    is_ours = moved.scalar_one_or_none() is not None
    if is_ours and target is JobState.SET_ASIDE:
        await _plan_instead(session, attempt.job)
    return is_ours


async def _plan_instead(session: Session, job: JobSpec) -> None:
    other = instead_of(job)
    if other is not None:
        await plan_jobs(session, [other])


async def try_again(session: Session, job_id: int) -> Job:
    """An operator's decision about a job that was set aside. Raises JobUnknown, JobNotSetAside."""
    row = (await session.execute(select(Job).where(Job.id == job_id).with_for_update())).scalar_one_or_none()
    if row is None:
        raise JobUnknown(f"there is no job {job_id}")
    if row.state is not JobState.SET_ASIDE:
        raise JobNotSetAside(f"job {job_id} is {row.state}: only a job that was set aside can be tried again")
    row.state, row.crashes = JobState.PLANNED, 0
    await session.flush()
    await _defer(session, {row.id: spec_of(row)})
    await session.refresh(row)
    return row


async def release_vanished(session: Session, seconds: float) -> list[int]:
    """Give back the queue entries of workers without a heartbeat for `seconds`."""
    released = await session.execute(_VANISHED, {"queue": QUEUE, "seconds": seconds})
    return list(released.scalars())


async def held_by(session: Session, worker_id: int) -> set[int]:
    """The queue entries that the queue believes this worker is at."""
    return set((await session.execute(_MINE, {"worker": worker_id})).scalars())


async def release_forgotten(session: Session, entries: Sequence[int]) -> None:
    """Give back entries whose worker lives but is not at them: the connection broke while it reported."""
    await session.execute(_FORGOTTEN, {"queue": QUEUE, "ids": list(entries)})


async def defer_lost(session: Session) -> list[int]:
    """Queue again what is not over and has no queue entry."""
    ids = list((await session.execute(_LOST)).scalars())
    rows = (await session.execute(select(Job).where(Job.id.in_(ids)))).scalars()
    await _defer(session, {row.id: spec_of(row) for row in rows})
    return ids


def spec_of(row: Job) -> JobSpec:
    """The job a row stands for."""
    return JobSpec(
        kind=row.kind,
        service=row.service,
        model_id=row.model_id,
        cohort_id=row.cohort_id,
        round_id=row.round_id,
        request_id=row.request_id,
        member=row.member,
        occasion=row.occasion,
    )


def _columns(spec: JobSpec) -> dict[str, Any]:
    names = ("kind", "service", "model_id", "cohort_id", "round_id", "request_id", "member", "occasion")
    return {"state": JobState.PLANNED, **{name: getattr(spec, name) for name in names}}


async def _defer(session: Session, entries: Mapping[int, JobSpec]) -> None:
    """procrastinate's own function: it inserts and notifies, and commits or rolls back with the caller."""
    jobs = [{"priority": PRIORITY[spec.kind], "lock": spec.lock, "args": {"job_id": job_id}} for job_id, spec in sorted(entries.items())]
    if jobs:
        await session.execute(_DEFER, {"queue": QUEUE, "task": TASK, "jobs": json.dumps(jobs)})
