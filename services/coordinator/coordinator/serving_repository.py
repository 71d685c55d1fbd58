"""SQL of deployments and requests: the serving contract's part of the projection. Works inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import select

from coordinator import tables
from coordinator.repository import put, rows_of
from coordinator.serving import DeploymentView, RequestView, ServingView
from hessian.chain.deployment_events import DeploymentEvent
from hessian.identifiers import DeploymentId, RequestId, Timestamp
from hessian.postgres.session import Session


async def load_for(session: Session, event: DeploymentEvent) -> ServingView | None:
    """The view before `event`. None for an event about nothing but money, and for one that makes its deployment known."""
    request_id, deployment_id = getattr(event, "request_id", None), getattr(event, "deployment_id", None)
    if deployment_id is None:
        return None if request_id is None else await load_request(session, request_id)
    found = await rows_of(session, tables.Deployment, tables.Deployment.deployment_id == deployment_id)
    if not found:
        return None
    return ServingView(DeploymentView(**found[0]), None if request_id is None else await _request(session, request_id))


async def load_request(session: Session, request_id: RequestId) -> ServingView | None:
    """A request with its deployment. None when it is unknown."""
    request = await _request(session, request_id)
    return None if request is None else await _with_deployment(session, request)


async def save(session: Session, before: ServingView | None, after: ServingView) -> None:
    """Write what the fold changed."""
    await put(session, tables.Deployment, after.deployment, before.deployment if before else None)
    if after.request is not None:
        await put(session, tables.ScoreRequest, after.request, before.request if before else None)


async def passed_deadlines(session: Session, after: Timestamp, now: Timestamp) -> list[ServingView]:
    """The waiting requests whose deadline passes between the two: at `after` not yet, at `now` it has."""
    row = tables.ScoreRequest
    query = select(row.request_id).where(row.ended_at.is_(None), row.deadline >= after, row.deadline < now).order_by(row.request_id)
    views = [await load_request(session, request_id) for request_id in (await session.execute(query)).scalars()]
    return [view for view in views if view is not None]


async def _request(session: Session, request_id: RequestId) -> RequestView | None:
    found = await rows_of(session, tables.ScoreRequest, tables.ScoreRequest.request_id == request_id)
    return RequestView(**found[0]) if found else None


async def _with_deployment(session: Session, request: RequestView) -> ServingView:
    wanted: DeploymentId = request.deployment_id
    (found,) = await rows_of(session, tables.Deployment, tables.Deployment.deployment_id == wanted)
    return ServingView(DeploymentView(**found), request)
