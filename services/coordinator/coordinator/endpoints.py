"""The read API: what the chain said and what this node makes of it. One route writes: an operator's second chance for a job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import ColumnElement

from coordinator import queue, reads, repository, tables
from coordinator.jobs import JobState
from coordinator.schemas import BlockRead, DeploymentRead, EventRead, JobRead, ModelRead, RequestRead, RoundRead, StatusRead
from coordinator.world import TheWorld
from hessian.errors import ChainUnavailable, DatabaseUnavailable, Malformed, NotPermitted, Unauthenticated
from hessian.identifiers import Timestamp
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import Page, PageLimit, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction

router = APIRouter(route_class=StrictJsonRoute, responses=refusals(Unauthenticated, NotPermitted, Malformed, DatabaseUnavailable))
READERS = Depends(requires("admin", "coordinator"))
After = Annotated[int, Depends(page_after)]
ChainNumber = Annotated[int | None, Query(ge=1, lt=2**63)]


@router.get("/status", tags=["status"], summary="Show progress and jobs", dependencies=[READERS], responses=refusals(ChainUnavailable))
async def read(world: TheWorld, session: Transaction) -> StatusRead:
    """How far the coordinator is behind the final block, and where its jobs stand."""
    head, final = await world.chain.head_block(), await world.chain.final_block()
    cursor = await repository.read_cursor(session)
    return StatusRead(
        chain_id=world.chain.chain_id,
        repository_address=world.contracts.repository.address,
        deployment_address=world.contracts.deployment.address,
        head=BlockRead(number=head.number, timestamp=head.timestamp),
        final=BlockRead(number=final.number, timestamp=final.timestamp),
        cursor=None if cursor is None else BlockRead(number=cursor.block_number, timestamp=cursor.timestamp),
        lag_blocks=None if cursor is None else max(0, final.number - cursor.block_number),
        lag_seconds=None if cursor is None else max(0, final.timestamp - cursor.timestamp),
        services=sorted(world.services),
        jobs=await reads.job_counts(session),
    )


@router.get("/models", tags=["models"], summary="List the contract's models", dependencies=[READERS])
async def list_models(session: Transaction, after: After, limit: PageLimit = 50) -> Page[ModelRead]:
    """Every model of the contract, oldest first, with the cohorts that are forming or at work."""
    rows, more = await reads.page(session, tables.Model, tables.Model.__table__.c.model_id, after, limit, [])
    cursor = await repository.read_cursor(session)
    items = await reads.models(session, rows, Timestamp(cursor.timestamp if cursor else 0))
    return Page(items=items, next=next_cursor(rows[-1].model_id) if more else None)


@router.get("/rounds", tags=["rounds"], summary="List rounds", dependencies=[READERS])
async def list_rounds(session: Transaction, after: After, model_id: ChainNumber = None, limit: PageLimit = 50) -> Page[RoundRead]:
    """Rounds, oldest first: who submitted and unlocked, errors, rewards, deadlines, and this node's jobs."""
    conditions: list[ColumnElement[bool]] = [] if model_id is None else [tables.Round.model_id == model_id]
    rows, more = await reads.page(session, tables.Round, tables.Round.__table__.c.round_id, after, limit, conditions)
    return Page(items=await reads.rounds(session, rows), next=next_cursor(rows[-1].round_id) if more else None)


@router.get("/deployments", tags=["deployments"], summary="List deployments", dependencies=[READERS])
async def list_deployments(session: Transaction, after: After, model_id: ChainNumber = None, limit: PageLimit = 50) -> Page[DeploymentRead]:
    """Trained models that can be asked, and those retired, oldest first."""
    conditions: list[ColumnElement[bool]] = [] if model_id is None else [tables.Deployment.model_id == model_id]
    rows, more = await reads.page(session, tables.Deployment, tables.Deployment.__table__.c.deployment_id, after, limit, conditions)
    return Page(items=reads.deployments(rows), next=next_cursor(rows[-1].deployment_id) if more else None)


@router.get("/requests", tags=["requests"], summary="List requests for a score", dependencies=[READERS])
async def list_requests(session: Transaction, after: After, deployment_id: ChainNumber = None, limit: PageLimit = 50) -> Page[RequestRead]:
    """Borrowers' requests, oldest first: deadlines, digests, and this node's jobs."""
    conditions: list[ColumnElement[bool]] = [] if deployment_id is None else [tables.ScoreRequest.deployment_id == deployment_id]
    rows, more = await reads.page(session, tables.ScoreRequest, tables.ScoreRequest.__table__.c.request_id, after, limit, conditions)
    return Page(items=await reads.requests(session, rows), next=next_cursor(rows[-1].request_id) if more else None)


@router.get("/events", tags=["events"], summary="List events", dependencies=[READERS])
async def list_events(
    session: Transaction, after: After, model_id: ChainNumber = None, deployment_id: ChainNumber = None, limit: PageLimit = 50
) -> Page[EventRead]:
    """Both contracts' events in final blocks, in the chain's order."""
    wanted = [(tables.Event.model_id, model_id), (tables.Event.deployment_id, deployment_id)]
    conditions = [column == value for column, value in wanted if value is not None]
    rows, more = await reads.page(session, tables.Event, tables.Event.__table__.c.id, after, limit, conditions)
    return Page(items=reads.events(rows), next=next_cursor(rows[-1].id) if more else None)


@router.get("/jobs", tags=["jobs"], summary="List jobs", dependencies=[READERS])
async def list_jobs(
    session: Transaction,
    after: After,
    state: Annotated[JobState | None, Query(description="`set_aside` lists what a person must look at")] = None,
    model_id: ChainNumber = None,
    round_id: ChainNumber = None,
    request_id: ChainNumber = None,
    limit: PageLimit = 50,
) -> Page[JobRead]:
    """What was asked of this node's services, oldest first."""
    subjects = [(tables.Job.model_id, model_id), (tables.Job.round_id, round_id), (tables.Job.request_id, request_id)]
    conditions = [column == value for column, value in [(tables.Job.state, state), *subjects] if value is not None]
    rows, more = await reads.page(session, tables.Job, tables.Job.__table__.c.id, after, limit, conditions)
    return Page(items=[JobRead.model_validate(row) for row in rows], next=next_cursor(rows[-1].id) if more else None)


@router.post(
    "/jobs/{job_id}/retry",
    tags=["jobs"],
    summary="Try a job again",
    dependencies=[Depends(requires("admin"))],
    responses=refusals(queue.JobUnknown, queue.JobNotSetAside),
)
async def retry(session: Transaction, job_id: Annotated[int, Path(ge=1, lt=2**63)]) -> JobRead:
    """Try a job again that was set aside, once its reason is gone."""
    return JobRead.model_validate(await queue.try_again(session, job_id))
