"""`/v1/deployments` and `/v1/applications` for borrowers, `/v1/requests` for the coordinator, one kind of ticket for the trainer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from hessian.chain.deployment import DeploymentUnknown
from hessian.errors import ChainUnavailable, IpfsUnavailable
from hessian.identifiers import Wei
from hessian.postgres.idempotency import IdempotencyKeyReused, given, once
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey, Page, PageLimit, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from owner_api.applications import accepting, applying, concluding, expiring, preparing
from owner_api.applications.accepting import (
    ApplicationUnderWay,
    DoubtNotConfirmed,
    FeaturesErased,
    NothingToAccept,
    NothingToShow,
    QuoteExpired,
)
from owner_api.applications.applying import ApplicationNotFound, FeeAboveLimit, NothingToRepeat
from owner_api.applications.deployments import DeploymentRead
from owner_api.applications.features import FeaturesRefused
from owner_api.applications.limits import QuotePeriodNotOver, SameFeatures, TooManyFeatureSets
from owner_api.applications.offers import DeploymentNotServing, ScoringModelNotUsable
from owner_api.applications.reading import read_application, read_applications, read_deployment
from owner_api.applications.schemas import (
    AcceptanceCreate,
    AcceptanceRead,
    ApplicationCreate,
    ApplicationRead,
    RedeemedScoreTicket,
    RequestAgain,
    ShownRead,
)
from owner_api.auth import AnyReader, CallingOwner, CoordinatorOnly, TrainerOnly
from owner_api.catalogue.service import ManifestNotUsable
from owner_api.contributions.schemas import OutcomeRead, TicketRedeem
from owner_api.enrollments.service import BalanceTooLow
from owner_api.paging import rows_of
from owner_api.tables import Answer, Application
from owner_api.tickets import TicketRefused
from owner_api.world import TheWorld, World

deployment_router = APIRouter(route_class=StrictJsonRoute, prefix="/deployments", tags=["deployments"], dependencies=[AnyReader])
router = APIRouter(route_class=StrictJsonRoute, prefix="/applications", tags=["applications"])
request_router = APIRouter(route_class=StrictJsonRoute, prefix="/requests", tags=["requests"], dependencies=[CoordinatorOnly])
ticket_router = APIRouter(route_class=StrictJsonRoute, prefix="/tickets", tags=["tickets"], dependencies=[TrainerOnly])

ChainNumber = Annotated[int, Path(ge=1, lt=2**63)]
FewPerPage = Annotated[int, Query(ge=1, le=50)]
_OFFER_REFUSALS = (DeploymentUnknown, ManifestNotUsable, ScoringModelNotUsable, DeploymentNotServing)
LOOKED_UP_AT_ONCE = 4
"""Deployments that one listing looks up at the same time."""
_MONEY_REFUSALS = (FeeAboveLimit, BalanceTooLow, QuotePeriodNotOver, IdempotencyKeyReused, ChainUnavailable, IpfsUnavailable)


@deployment_router.get("", name="page", summary="List what can be applied to", responses=refusals(ChainUnavailable))
async def deployments(world: TheWorld, after: Annotated[int, Depends(page_after)], limit: FewPerPage = 20) -> Page[DeploymentRead]:
    """Every deployment on chain, oldest first, with this node's own verdict on it."""
    last = await world.deployment.deployment_count(await world.chain.final_block())
    shown = range(after + 1, min(after + limit, last) + 1)
    places = asyncio.Semaphore(LOOKED_UP_AT_ONCE)

    async def one(deployment_id: int) -> DeploymentRead:
        async with places:
            return await read_deployment(world, deployment_id)

    items = await asyncio.gather(*map(one, shown))
    return Page(items=items, next=next_cursor(shown[-1]) if items and shown[-1] < last else None)


@deployment_router.get(
    "/{deployment_id}", name="read", summary="Show a deployment", responses=refusals(DeploymentUnknown, ChainUnavailable)
)
async def deployment(world: TheWorld, deployment_id: ChainNumber) -> DeploymentRead:
    """Fee, window, policy in plain words, and the features as a form needs them: type, legal range, spelling."""
    return await read_deployment(world, deployment_id)


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Apply to a deployment",
    responses=refusals(*_OFFER_REFUSALS, FeaturesRefused, SameFeatures, TooManyFeatureSets, *_MONEY_REFUSALS),
)
async def create(
    world: TheWorld, session: Transaction, owner: CallingOwner, wanted: ApplicationCreate, key: IdempotencyKey
) -> ApplicationRead:
    """Pay the fee for a decision. Everything wrong with the features is said at once.

    Follow `GET /v1/applications/{application_id}` until its state is `quoted`. In `open` mode the borrower's own client has one thing to do
    on the way: once the state is `waiting`, take `application` of `GET /v1/applications/{application_id}/open-application` and post it to
    the lender's `POST /v1/requests/{request_id}/assessment`; post it again after a 404 or 503, for the lender sees the request a little
    later. Where the lender's API is stands neither on chain nor in the manifest: it comes from the lender.

    The other ends: `expired`, the lender did not answer by `deadline` and the fee is credited back, to be withdrawn by
    `POST /v1/withdrawals?contract=deployment`; `unreadable`, the fee is paid for an answer that nobody can read; `failed`, no fee was paid.
    """
    request = f"POST /v1/applications {_fingerprint(world, wanted)}"
    if known := await given(world.database, Answer, caller=str(owner.id), key=key, request=request, answer_type=ApplicationRead):
        return known
    seen = await applying.look(world, owner, wanted.deployment_id)

    async def act() -> ApplicationRead:
        return await read_application(session, world, await applying.apply(session, world, owner, wanted, seen))

    answer = await once(session, Answer, caller=str(owner.id), key=key, request=request, answer_type=ApplicationRead, act=act)
    applying.wake_worker_after_commit(session, world)
    return answer


@router.get("", summary="List applications")
async def page(
    world: TheWorld, session: Transaction, owner: CallingOwner, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[ApplicationRead]:
    """The calling borrower's applications, oldest first."""
    rows = await rows_of(session, Application, owner.id, after, limit)
    shown = await read_applications(session, world, rows[:limit])
    return Page(items=shown, next=next_cursor(rows[limit - 1].number) if len(rows) > limit else None)


@router.get("/{application_id}", summary="Show an application", responses=refusals(ApplicationNotFound))
async def read(world: TheWorld, session: Transaction, owner: CallingOwner, application_id: uuid.UUID) -> ApplicationRead:
    """State, quote, fee and transactions."""
    return await read_application(session, world, await applying.find(session, owner, application_id))


@router.post(
    "/{application_id}/requests",
    status_code=HTTPStatus.ACCEPTED,
    summary="Request again",
    responses=refusals(ApplicationNotFound, NothingToRepeat, *_OFFER_REFUSALS, *_MONEY_REFUSALS),
)
async def request_again(
    world: TheWorld, session: Transaction, owner: CallingOwner, application_id: uuid.UUID, wanted: RequestAgain, key: IdempotencyKey
) -> ApplicationRead:
    """After a request that expired or failed: pay the fee again, for the same bytes. An application that failed before there was a query
    has none to send."""
    request = f"POST /v1/applications/{application_id}/requests {wanted.model_dump_json()}"
    if known := await given(world.database, Answer, caller=str(owner.id), key=key, request=request, answer_type=ApplicationRead):
        return known
    async with world.database.begin() as brief:
        deployment_id = (await applying.find(brief, owner, application_id)).deployment_id
    seen = await applying.look(world, owner, deployment_id)

    async def act() -> ApplicationRead:
        application = await applying.request_again(session, world, owner, application_id, Wei(wanted.max_fee_wei), seen)
        return await read_application(session, world, application)

    answer = await once(session, Answer, caller=str(owner.id), key=key, request=request, answer_type=ApplicationRead, act=act)
    applying.wake_worker_after_commit(session, world)
    return answer


@router.post(
    "/{application_id}/acceptance",
    summary="Accept a quote",
    responses=refusals(ApplicationNotFound, NothingToAccept, DoubtNotConfirmed, QuoteExpired, FeaturesErased, ChainUnavailable),
)
async def accept(
    world: TheWorld, session: Transaction, owner: CallingOwner, application_id: uuid.UUID, wanted: AcceptanceCreate | None = None
) -> AcceptanceRead:
    """The opening of the commitment, for the borrower's own client: with it the lender sees the features, and confirms. Repeatable."""
    doubtful = wanted is not None and wanted.accept_doubtful
    return await accepting.accept(session, world, owner, application_id, doubtful=doubtful)


@router.get(
    "/{application_id}/open-application",
    summary="Show an open application",
    responses=refusals(ApplicationNotFound, NothingToShow, FeaturesErased),
)
async def show(world: TheWorld, session: Transaction, owner: CallingOwner, application_id: uuid.UUID) -> ShownRead:
    """What the borrower's own client shows to the lender in open mode; only its digest is on chain."""
    return await accepting.show(session, world, owner, application_id)


@router.delete(
    "/{application_id}/features",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Erase an application's features",
    responses=refusals(ApplicationNotFound, ApplicationUnderWay, IpfsUnavailable),
)
async def erase(world: TheWorld, owner: CallingOwner, application_id: uuid.UUID) -> None:
    """Features, salt, R and query go, and with them the right to accept; an application that is not requested yet is withdrawn.

    State, quote and digests stay as the borrower's history; keyed fingerprints of values that were sent stay, so they go once only. This
    node's IPFS node lets go of the query; copies that others have fetched are theirs. Repeat it after a 503.
    """
    await accepting.erase(world, owner, application_id)


@request_router.post("/{request_id}/conclusion", summary="Book a request's end", responses=refusals(ChainUnavailable, IpfsUnavailable))
async def conclude(world: TheWorld, request_id: ChainNumber) -> OutcomeRead:
    """After a request was answered or expired: open the answer, or note the refund."""
    return await concluding.conclude(world, request_id)


@request_router.post("/{request_id}/expiry", summary="End a request whose deadline has passed", responses=refusals(ChainUnavailable))
async def expire(world: TheWorld, request_id: ChainNumber) -> OutcomeRead:
    """Signed by the borrower; ask again until a final block shows the request's end."""
    return await expiring.expire(world, request_id)


@ticket_router.post("/application", summary="Redeem a score ticket", responses=refusals(TicketRefused))
async def redeem_score(world: TheWorld, session: Transaction, shown: TicketRedeem) -> RedeemedScoreTicket:
    """Features and secrets of one application, for the trainer of this node alone."""
    return await preparing.redeem(session, world, shown.ticket)


def _fingerprint(world: World, wanted: ApplicationCreate) -> str:
    """Tells one request from another without keeping a hash that guessed features could be tried against."""
    text = json.dumps(wanted.model_dump(mode="python"), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), key=world.vault.derive("application requests"), digest_size=32).hexdigest()
