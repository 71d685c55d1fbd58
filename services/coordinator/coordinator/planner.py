"""What an event, or the passing of a deadline, asks for. Pure: (event, view) → jobs (ARCHITECTURE, "How one round flows").

The planner knows no node: it plans for every party, the watcher keeps what its own neighbours can do, and those answer `foreign` for what
concerns others. Planning the same thing again is harmless: a business key names one job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from coordinator.jobs import JobKind, JobSpec, Service
from coordinator.projection import CohortView, ModelView, RoundView
from hessian.chain.events import (
    CohortClosed,
    CohortSealed,
    MemberJoined,
    MemberLeft,
    ModelClosed,
    ModelCreated,
    RepositoryEvent,
    RoundDefaulted,
    RoundFailed,
    RoundOpened,
    RoundSettled,
    RoundUnlockFailed,
    SubmissionsAccepted,
    SubmissionsCompleted,
    UnlocksCompleted,
)
from hessian.chain.records import ModelState, RoundState
from hessian.identifiers import CohortId, RoundId, Timestamp

_CATALOGUE_NEWS = (ModelCreated, MemberJoined, MemberLeft, CohortSealed, CohortClosed, RoundSettled, RoundDefaulted, ModelClosed)

STATE_OF_KIND = {
    JobKind.CONTRIBUTE: RoundState.SUBMITTING,
    JobKind.ABANDON: RoundState.SUBMITTING,
    JobKind.ACCEPT_SUBMISSIONS: RoundState.ACCEPTING,
    JobKind.UNLOCK: RoundState.UNLOCKING,
    JobKind.EVALUATE_ROUND: RoundState.EVALUATING,
}
"""In another state of the round, such a job has nothing left to do."""

WHO_EXPIRES = {
    RoundState.SUBMITTING: (Service.LENDER, Service.OWNER),
    RoundState.ACCEPTING: (Service.LENDER, Service.OWNER),
    RoundState.UNLOCKING: (Service.LENDER, Service.OWNER),
    RoundState.EVALUATING: (Service.OWNER,),
}
"""Who gains when the round ends here (PROTOCOL §6). A lender that refused a cohort's content ends its round so, to go on with the next."""


LONGEST_RETREAT = 3600
"""Seconds before a deadline. A node that comes back well before the end of a long window still has time to compute."""


def plan(event: RepositoryEvent, model: ModelView | None) -> list[JobSpec]:
    """The jobs that `event` asks for; `model` is the view after it."""
    if model is None:
        return []
    return [*_round_work(event, model), *_model_work(event, model), *_news(event, model)]


def plan_deadlines(models: Iterable[ModelView], timestamp: Timestamp) -> list[JobSpec]:
    """The jobs that a final block of this time asks for. Deadlines are not events: nobody announces that nothing happened."""
    return [job for model in models for job in _overdue(model, timestamp)]


def plan_retreats(models: Iterable[ModelView], timestamp: Timestamp) -> list[JobSpec]:
    """The last third of a submit window, at most an hour: who has not submitted by then leaves, if its node has nothing to send."""
    return [job for model in models for job in _retreats(model, timestamp)]


def superseded(job: JobSpec, model: ModelView, timestamp: Timestamp) -> str | None:
    """Why the chain no longer needs this job, None when it does. Spares the neighbours calls; they re-read the chain themselves."""
    if job.kind is JobKind.OPEN_ROUND and job.cohort_id is not None:
        cohort = model.cohorts.get(job.cohort_id)
        if model.is_over(timestamp):
            return f"model {model.model_id} is over"
        return f"cohort {job.cohort_id} is closed" if cohort is None or cohort.is_closed else None
    if job.round_id is None:
        return None
    current = model.round(job.round_id)
    if job.kind is JobKind.EXPIRE_ROUND:
        return None if current.state.is_in_flight else f"round {job.round_id} is {_word(current.state)}"
    wanted = STATE_OF_KIND.get(job.kind)
    if wanted is None:
        return None
    if current.state is not wanted:
        return f"round {job.round_id} is {_word(current.state)}"
    if timestamp > current.deadline:
        return f"the deadline of round {job.round_id} has passed"
    return _already_there(job, current)


def _already_there(job: JobSpec, current: RoundView) -> str | None:
    submission = current.submission_of(job.member)
    if job.kind in (JobKind.CONTRIBUTE, JobKind.ABANDON) and submission is not None:
        return "the member has submitted"
    if job.kind is JobKind.UNLOCK and submission is not None and submission.unlocked_at is not None:
        return "the member has unlocked"
    return None


def _round_work(event: RepositoryEvent, model: ModelView) -> Iterator[JobSpec]:
    match event:
        case RoundOpened(round_id=round_id):
            yield from _for_members(JobKind.CONTRIBUTE, model, round_id)
        case SubmissionsCompleted(round_id=round_id):
            yield _for_lender(JobKind.ACCEPT_SUBMISSIONS, model, round_id)
        case SubmissionsAccepted(round_id=round_id):
            yield from _for_members(JobKind.UNLOCK, model, round_id)
        case UnlocksCompleted(round_id=round_id):
            yield _for_lender(JobKind.EVALUATE_ROUND, model, round_id)
        case RoundSettled(round_id=round_id) | RoundFailed(round_id=round_id):
            yield from _for_members(JobKind.CONCLUDE_CONTRIBUTION, model, round_id)
        case RoundUnlockFailed(round_id=round_id) | RoundDefaulted(round_id=round_id):
            yield from _for_members(JobKind.CONCLUDE_CONTRIBUTION, model, round_id)


def _model_work(event: RepositoryEvent, model: ModelView) -> Iterator[JobSpec]:
    is_over = model.is_over(event.place.timestamp)
    match event:
        case CohortSealed() | CohortClosed() if not is_over:
            yield from _next_round(model)
        case RoundSettled() | RoundFailed() | RoundUnlockFailed() | RoundDefaulted() | ModelClosed():
            yield from _end_of_model(model) if is_over else _next_round(model)
        case MemberLeft(cohort_id=cohort_id) if is_over:  # the next of this node's members may leave the forming cohort
            yield from _leave(model.cohort(cohort_id))


def _news(event: RepositoryEvent, model: ModelView) -> Iterator[JobSpec]:
    if isinstance(event, _CATALOGUE_NEWS):
        occasion = f"block-{event.place.block_number}"
        yield JobSpec(kind=JobKind.ANNOUNCE_MODEL, service=Service.OWNER, model_id=model.model_id, occasion=occasion)


def _for_members(kind: JobKind, model: ModelView, round_id: RoundId) -> Iterator[JobSpec]:
    cohort = model.cohort(model.round(round_id).cohort_id)
    for member in cohort.members:
        yield JobSpec(
            kind=kind,
            service=Service.OWNER,
            model_id=model.model_id,
            cohort_id=cohort.cohort_id,
            round_id=round_id,
            member=member.account,
        )


def _for_lender(kind: JobKind, model: ModelView, round_id: RoundId) -> JobSpec:
    cohort_id = model.round(round_id).cohort_id
    return JobSpec(kind=kind, service=Service.LENDER, model_id=model.model_id, cohort_id=cohort_id, round_id=round_id)


def _next_round(model: ModelView) -> Iterator[JobSpec]:
    """The oldest sealed cohort goes on until it closes, so that an unfinished `open_round` is planned again, never doubled."""
    if model.round_in_flight is not None:
        return
    ready: list[CohortId] = sorted(cohort.cohort_id for cohort in model.cohorts.values() if cohort.is_sealed and not cohort.is_closed)
    if ready:
        number = f"number-{model.rounds_opened + 1}"
        yield JobSpec(kind=JobKind.OPEN_ROUND, service=Service.LENDER, model_id=model.model_id, cohort_id=ready[0], occasion=number)


def _end_of_model(model: ModelView) -> Iterator[JobSpec]:
    occasion = "closed" if model.is_closed else "ended"
    yield JobSpec(kind=JobKind.CONCLUDE_MODEL, service=Service.LENDER, model_id=model.model_id, occasion=occasion)
    for cohort in model.cohorts.values():
        yield from _leave(cohort)


def _leave(cohort: CohortView) -> Iterator[JobSpec]:
    if cohort.members and not cohort.is_closed:
        yield JobSpec(
            kind=JobKind.LEAVE_COHORT,
            service=Service.OWNER,
            model_id=cohort.model_id,
            cohort_id=cohort.cohort_id,
            occasion=f"of-{len(cohort.members)}",
        )


def _overdue(model: ModelView, timestamp: Timestamp) -> Iterator[JobSpec]:
    current = model.round_in_flight
    if current is not None:
        if timestamp > current.deadline:
            for service in WHO_EXPIRES[current.state]:
                yield JobSpec(
                    kind=JobKind.EXPIRE_ROUND,
                    service=service,
                    model_id=model.model_id,
                    cohort_id=current.cohort_id,
                    round_id=current.round_id,
                    occasion=_word(current.state),
                )
    elif model.state is ModelState.OPEN and model.is_over(timestamp):
        yield from _end_of_model(model)
        yield JobSpec(kind=JobKind.ANNOUNCE_MODEL, service=Service.OWNER, model_id=model.model_id, occasion="expired")


def _retreats(model: ModelView, timestamp: Timestamp) -> Iterator[JobSpec]:
    current = model.round_in_flight
    if current is None or current.state is not RoundState.SUBMITTING or timestamp > current.deadline:
        return
    left, window = current.deadline - timestamp, current.deadline - current.opened_at
    if left < min(window // 3, LONGEST_RETREAT):
        for job in _for_members(JobKind.ABANDON, model, current.round_id):
            if current.submission_of(job.member) is None:
                yield replace(job, occasion="the submit window is nearly over")


def _word(state: ModelState | RoundState) -> str:
    return state.name.lower().replace("_", " ")
