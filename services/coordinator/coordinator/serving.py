"""The serving contract: its state as its events tell it, and the work that they call for. Pure: (view, event) → view, and → jobs.

As in planner.py, every party's work is planned; the watcher keeps what its own neighbours can do, and those answer `foreign` for what
concerns others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.jobs import JobKind, JobSpec, Service
from coordinator.projection import HistoryBroken
from hessian.chain.deployment_events import (
    Credited,
    DeploymentEvent,
    DeploymentRetired,
    ModelDeployed,
    RequestExpired,
    ScoreAnswered,
    ScoreRequested,
    Withdrawn,
)
from hessian.chain.deployment_records import RequestState
from hessian.identifiers import Address, DeploymentId, Digest, ModelId, RequestId, Timestamp, Wei


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A trained model that can be asked for a fee; only `is_retired` changes."""

    deployment_id: DeploymentId
    model_id: ModelId
    lender: Address
    fee: Wei
    answer_window: int
    weights_digest: Digest
    scoring_digest: Digest
    deployed_at: Timestamp
    is_retired: bool = False


@dataclass(frozen=True, slots=True)
class RequestView:
    """A borrower's request, by the chain's clock."""

    request_id: RequestId
    deployment_id: DeploymentId
    requester: Address
    state: RequestState
    deadline: Timestamp
    query_digest: Digest
    requested_at: Timestamp
    answer_digest: Digest | None = None
    ended_at: Timestamp | None = None


@dataclass(frozen=True, slots=True)
class ServingView:
    """A deployment and the request that an event or a job speaks of, if it speaks of one."""

    deployment: DeploymentView
    request: RequestView | None = None


def fold(view: ServingView | None, event: DeploymentEvent) -> ServingView | None:
    """The view after `event`; events that are about money only leave it as it is. Raises HistoryBroken."""
    if isinstance(event, Credited | Withdrawn):
        return view
    if isinstance(event, ModelDeployed):
        if view is not None:
            raise HistoryBroken(f"deployment {event.deployment_id} was made twice")
        return ServingView(_deployed(event))
    if view is None:
        raise HistoryBroken(f"{event.kind} at block {event.place.block_number} speaks of a deployment that was never made")
    match event:
        case DeploymentRetired():
            return replace(view, deployment=replace(view.deployment, is_retired=True))
        case ScoreRequested(request_id=request_id):
            if view.request is not None:
                raise HistoryBroken(f"request {request_id} was made twice")
            return replace(view, request=_requested(event))
        case ScoreAnswered(answer_digest=digest):
            return _ended(view, event, RequestState.ANSWERED, digest)
        case RequestExpired():
            return _ended(view, event, RequestState.EXPIRED, None)
        case _:
            return view


def plan(event: DeploymentEvent, view: ServingView | None) -> list[JobSpec]:
    """The jobs that `event` asks for; `view` is the one after it."""
    if view is None:
        return []
    match event:
        case ScoreRequested(request_id=request_id):
            return [_job(JobKind.ANSWER_SCORE, Service.LENDER, view, request_id)]
        case ScoreAnswered(request_id=request_id) | RequestExpired(request_id=request_id):
            return [_job(JobKind.READ_ANSWER, Service.OWNER, view, request_id)]
        case _:
            return []


def plan_refunds(overdue: Iterable[ServingView]) -> list[JobSpec]:
    """The jobs that a final block asks for whose time is past these requests' deadlines: only the borrower gains by their end."""
    return [_job(JobKind.EXPIRE_REQUEST, Service.OWNER, view, view.request.request_id) for view in overdue if view.request is not None]


def superseded(job: JobSpec, view: ServingView) -> str | None:
    """Why the chain no longer needs this job, None when it does.

    A lender whose node comes too late is still asked: it writes down that it missed the request.
    """
    request = view.request
    if request is None:
        return None
    over = {JobKind.ANSWER_SCORE: {RequestState.ANSWERED}, JobKind.EXPIRE_REQUEST: {RequestState.ANSWERED, RequestState.EXPIRED}}
    return f"request {request.request_id} is {request.state.name.lower()}" if request.state in over.get(job.kind, ()) else None


def _deployed(event: ModelDeployed) -> DeploymentView:
    return DeploymentView(
        deployment_id=event.deployment_id,
        model_id=event.model_id,
        lender=event.lender,
        fee=event.fee,
        answer_window=event.answer_window,
        weights_digest=event.weights_digest,
        scoring_digest=event.scoring_digest,
        deployed_at=event.place.timestamp,
    )


def _requested(event: ScoreRequested) -> RequestView:
    return RequestView(
        request_id=event.request_id,
        deployment_id=event.deployment_id,
        requester=event.requester,
        state=RequestState.WAITING,
        deadline=event.deadline,
        query_digest=event.query_digest,
        requested_at=event.place.timestamp,
    )


def _ended(view: ServingView, event: ScoreAnswered | RequestExpired, state: RequestState, digest: Digest | None) -> ServingView:
    if view.request is None or view.request.state is not RequestState.WAITING:
        raise HistoryBroken(f"{event.kind} at block {event.place.block_number} speaks of request {event.request_id}, which does not wait")
    return replace(view, request=replace(view.request, state=state, answer_digest=digest, ended_at=event.place.timestamp))


def _job(kind: JobKind, service: Service, view: ServingView, request_id: RequestId) -> JobSpec:
    return JobSpec(kind=kind, service=service, model_id=view.deployment.model_id, request_id=request_id)
