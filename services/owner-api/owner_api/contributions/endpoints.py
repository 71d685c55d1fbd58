"""Contributions: what the coordinator asks of this node's members round by round, what the trainer redeems, what an owner may see."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import StreamingResponse

from hessian.artifacts.codec import ArtifactRefused
from hessian.chain.repository import RoundUnknown
from hessian.errors import ChainUnavailable
from hessian.identifiers import Digest
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import AddressField, Page, PageLimit, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from owner_api import tickets
from owner_api.auth import CallingOwner, CoordinatorOnly, TrainerOnly
from owner_api.contributions import abandoning, concluding, expiring, preparing, sending
from owner_api.contributions.schemas import (
    Abandon,
    ArtifactRead,
    ContributionAsked,
    ContributionRead,
    OutcomeRead,
    RedeemedTicket,
    Submit,
    TicketRead,
    TicketRedeem,
)
from owner_api.contributions.sending import ContributionNotFound, NothingToSubmit, OtherArtifactStored, RoundNotUnlocking
from owner_api.datasets.storage import DatasetFileMissing
from owner_api.paging import cut, rows_of
from owner_api.tables import Contribution, Dataset, Enrollment
from owner_api.tickets import TicketRefused
from owner_api.world import TheWorld, World

router = APIRouter(route_class=StrictJsonRoute, prefix="/contributions", tags=["contributions"])
ticket_router = APIRouter(route_class=StrictJsonRoute, prefix="/tickets", tags=["tickets"], dependencies=[TrainerOnly])
round_router = APIRouter(route_class=StrictJsonRoute, tags=["rounds"], dependencies=[CoordinatorOnly])

ChainNumber = Annotated[int, Path(ge=1, lt=2**63)]
_ARTIFACT = {
    "requestBody": {"required": True, "content": {"application/vnd.ipld.dag-cbor": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("", summary="List contributions")
async def page(
    session: Transaction, owner: CallingOwner, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[ContributionRead]:
    """The calling owner's part in every round so far, oldest first."""
    return cut(await rows_of(session, Contribution, owner.id, after, limit), limit, ContributionRead.model_validate)


@router.post("", summary="Ask for a member's contribution", dependencies=[CoordinatorOnly], responses=refusals(ChainUnavailable))
async def contribute(world: TheWorld, session: Transaction, asked: ContributionAsked) -> OutcomeRead | TicketRead:
    """A ticket for the trainer when the member is this node's and the round, at the final block, still wants its gradient."""
    return await preparing.contribute(session, world, asked.round_id, asked.member)


@router.post(
    "/{round_id}/{member}/artifact",
    summary="Store a masked gradient",
    dependencies=[CoordinatorOnly],
    openapi_extra=_ARTIFACT,
    responses=refusals(ContributionNotFound, ArtifactRefused),
)
async def store_artifact(
    request: Request, world: TheWorld, session: Transaction, round_id: ChainNumber, member: AddressField
) -> ArtifactRead:
    """Checked and kept; the answer is the artifact to publish, which is the first one stored."""
    stored = await sending.store_artifact(session, world, round_id, member, await request.body())
    return ArtifactRead(gradient_digest=stored.gradient_digest or b"", artifact=base64.b64encode(stored.artifact or b""))


@router.post(
    "/{round_id}/{member}/submit",
    summary="Anchor a published gradient",
    dependencies=[CoordinatorOnly],
    responses=refusals(ContributionNotFound, NothingToSubmit, OtherArtifactStored, ChainUnavailable),
)
async def submit(world: TheWorld, session: Transaction, round_id: ChainNumber, member: AddressField, wanted: Submit) -> OutcomeRead:
    """Call once the stored bytes are published and pinned."""
    return await sending.submit(session, world, round_id, member, Digest(wanted.gradient_digest))


@router.post(
    "/{round_id}/{member}/abandon",
    summary="Leave instead of staying silent",
    dependencies=[CoordinatorOnly],
    responses=refusals(ChainUnavailable),
)
async def abandon(world: TheWorld, round_id: ChainNumber, member: AddressField, wanted: Abandon) -> OutcomeRead:
    """When the member's part cannot be computed. Nothing happens once a submission is on its way; ask again until the leave is final."""
    return await abandoning.abandon(world, round_id, member, wanted.reason)


@router.post(
    "/{round_id}/{member}/unlock",
    summary="Open a member's self-mask",
    dependencies=[CoordinatorOnly],
    responses=refusals(ContributionNotFound, RoundNotUnlocking, ChainUnavailable),
)
async def unlock(world: TheWorld, session: Transaction, round_id: ChainNumber, member: AddressField) -> OutcomeRead:
    """Only after a final block shows every submission and the lender's acceptance."""
    return await sending.unlock(session, world, round_id, member)


@router.post(
    "/{round_id}/{member}/conclude", summary="Book a round's end", dependencies=[CoordinatorOnly], responses=refusals(ChainUnavailable)
)
async def conclude(world: TheWorld, session: Transaction, round_id: ChainNumber, member: AddressField) -> OutcomeRead:
    """After the round settled, failed or defaulted."""
    return await concluding.conclude(session, world, round_id, member)


@round_router.post(
    "/rounds/{round_id}/expire", summary="End a round whose deadline has passed", responses=refusals(RoundUnknown, ChainUnavailable)
)
async def expire(world: TheWorld, round_id: ChainNumber) -> OutcomeRead:
    """Signed by a member of this node, if there is one; ask again until a final block shows the round's end."""
    return await expiring.expire(world, round_id)


@round_router.post("/cohorts/{cohort_id}/leave", summary="Leave an ended model's cohort", responses=refusals(ChainUnavailable))
async def leave(world: TheWorld, session: Transaction, cohort_id: ChainNumber) -> OutcomeRead:
    """The bonds come back as credits."""
    return await concluding.leave_ended_model(session, world, cohort_id)


@ticket_router.post("/redeem", summary="Redeem a gradient ticket", responses=refusals(TicketRefused, ChainUnavailable))
async def redeem(world: TheWorld, session: Transaction, shown: TicketRedeem) -> RedeemedTicket:
    """Statistics and masks of one member in one round, for the trainer of this node alone."""
    return await preparing.redeem(session, world, shown.ticket)


@ticket_router.post(
    "/rows",
    summary="Stream the rows behind a ticket",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The CSV as it was uploaded, or the Parquet file behind a frame that repeats its end",
            "content": {"application/octet-stream": {}},
        },
        **refusals(TicketRefused, DatasetFileMissing),
    },
)
async def rows(world: TheWorld, shown: TicketRedeem) -> StreamingResponse:
    """Works once. The ticket is in the body: paths are logged."""
    async with world.database.begin() as session:
        enrollment = await session.get_one(Enrollment, await tickets.take_rows(session, shown.ticket))
        dataset = await session.get_one(Dataset, enrollment.dataset_id)
    chunks = world.datasets.stream(dataset.id)
    first = await anext(chunks)  # a file that cannot be opened is a refusal, not a broken stream
    return StreamingResponse(_followed(world, enrollment.id, dataset.size, first, chunks), media_type="application/octet-stream")


async def _followed(world: World, enrollment_id: uuid.UUID, size: int, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks; how far they are is what an enrolment that is measured shows."""
    yield first
    sent = len(first)
    async for chunk in rest:
        yield chunk
        sent += len(chunk)
        world.measured_percent[enrollment_id] = min(100, 100 * sent // max(1, size))
