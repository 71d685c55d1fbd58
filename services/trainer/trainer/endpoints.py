"""The three jobs. Handlers move bytes between owner-api and a job's process; nothing is computed and nothing is kept here."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import TypeVar

import structlog
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.background import BackgroundTask

from hessian import tracing
from hessian.errors import Conflict, ServiceUnavailable
from hessian.identifiers import digest_of
from hessian.service.client import PeerRefused, ServiceClient
from hessian.service.edge import StrictJsonRoute
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from trainer.isolation.worker import IsolationUnavailable
from trainer.job import Job
from trainer.pool import JobCrashed, JobLimitExceeded, JobPool, JobRefused, TrainerBusy
from trainer.schemas import (
    GradientStepRequest,
    RedeemedScoreTicket,
    RedeemedTicket,
    ScoreQueryRequest,
    StatisticsRead,
    StatisticsRequest,
)

RedeemedT = TypeVar("RedeemedT", bound=BaseModel)

log = structlog.get_logger()
DAG_CBOR = "application/vnd.ipld.dag-cbor"
router = APIRouter(route_class=StrictJsonRoute, responses=refusals(TrainerBusy, JobCrashed, IsolationUnavailable, ServiceUnavailable))


class TicketForOtherArtifacts(Conflict):
    """The ticket was issued for other artifacts than the request brings."""


@router.post(
    "/statistics",
    tags=["statistics"],
    summary="Compute a dataset's sufficient statistics",
    dependencies=[Depends(requires("trainer"))],
    responses=refusals(JobRefused, JobLimitExceeded, PeerRefused),
)
async def compute(request: Request, wanted: StatisticsRequest) -> StatisticsRead:
    """Stream the rows behind the ticket into a fresh process; the trainer itself holds a chunk of them at a time."""
    pool: JobPool = request.state.pool
    owner: ServiceClient = request.state.owner
    header = {
        "manifest": base64.b64encode(wanted.manifest).decode(),
        "minimum_key_bits": request.state.minimum_key_bits,
        "threads": request.state.job_threads,
    }
    answer = await pool.run(Job.STATISTICS, json.dumps(header).encode(), _rows(owner, wanted.ticket))
    return StatisticsRead.model_validate_json(answer)


@router.post(
    "/gradient-steps",
    tags=["gradient-steps"],
    summary="Compute one member's masked gradient",
    dependencies=[Depends(requires("coordinator"))],
    responses={
        200: {"description": "A masked gradient: one artifact of canonical DAG-CBOR", "content": {DAG_CBOR: {}}},
        **refusals(JobRefused, JobLimitExceeded, TicketForOtherArtifacts, PeerRefused),
    },
    response_class=Response,
)
async def step(request: Request, wanted: GradientStepRequest) -> Response:
    """Redeem the ticket at owner-api, check that it was issued for exactly these artifacts, compute in a fresh process."""
    pool: JobPool = request.state.pool
    owner: ServiceClient = request.state.owner
    ticket = await _redeem(owner, "/v1/tickets/redeem", wanted.ticket, RedeemedTicket)
    if ticket.manifest_digest != digest_of(wanted.manifest).hex() or ticket.weights_digest != digest_of(wanted.weights).hex():
        raise TicketForOtherArtifacts
    model = {"manifest": base64.b64encode(wanted.manifest).decode(), "minimum_key_bits": request.state.minimum_key_bits}
    header = {
        **model,
        "weights": base64.b64encode(wanted.weights).decode(),
        "ticket": ticket.model_dump(mode="json"),
    }
    with tracing.span("gradient step"):
        artifact = await pool.run(Job.GRADIENT_STEP, json.dumps(header).encode())
    log.info("gradient_computed", bytes=len(artifact))
    # a round of this model is likely to be followed by its next
    return Response(artifact, media_type=DAG_CBOR, background=BackgroundTask(pool.prepare, json.dumps(model).encode()))


@router.post(
    "/score-queries",
    tags=["score-queries"],
    summary="Compute one borrower's blinded score query",
    dependencies=[Depends(requires("trainer"))],
    responses={
        200: {"description": "A score query: one artifact of canonical DAG-CBOR", "content": {DAG_CBOR: {}}},
        **refusals(JobRefused, JobLimitExceeded, TicketForOtherArtifacts, PeerRefused),
    },
    response_class=Response,
)
async def query(request: Request, wanted: ScoreQueryRequest) -> Response:
    """Redeem the ticket at owner-api, check that it was issued for exactly these artifacts, compute in a fresh process."""
    pool: JobPool = request.state.pool
    owner: ServiceClient = request.state.owner
    ticket = await _redeem(owner, "/v1/tickets/application", wanted.ticket, RedeemedScoreTicket)
    if ticket.manifest_digest != digest_of(wanted.manifest).hex() or ticket.scoring_digest != digest_of(wanted.scoring_model).hex():
        raise TicketForOtherArtifacts
    header = {
        "manifest": base64.b64encode(wanted.manifest).decode(),
        "scoring_model": base64.b64encode(wanted.scoring_model).decode(),
        "ticket": ticket.model_dump(mode="json"),
        "minimum_key_bits": request.state.minimum_key_bits,
    }
    with tracing.span("score query"):
        artifact = await pool.run(Job.SCORE_QUERY, json.dumps(header).encode())
    log.info("score_query_computed", bytes=len(artifact))
    return Response(artifact, media_type=DAG_CBOR)


async def _rows(owner: ServiceClient, ticket: str) -> AsyncIterator[bytes]:
    async with owner.stream("POST", "/v1/tickets/rows", json={"ticket": ticket}) as chunks:
        async for chunk in chunks:
            yield chunk


async def _redeem(owner: ServiceClient, path: str, ticket: str, redeemed: type[RedeemedT]) -> RedeemedT:
    answer = await owner.request("POST", path, json={"ticket": ticket})
    try:
        return redeemed.model_validate_json(answer.content)
    except ValidationError as error:
        raise ServiceUnavailable("owner-api answered a ticket with something this trainer does not understand") from error
