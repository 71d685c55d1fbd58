"""preparing → requesting: the query is computed once and stored, published, and its digest anchored with the fee. What is stored is what is
sent, for ever: whatever has to be repeated, the lender sees the same bytes.
"""

from __future__ import annotations

import asyncio
import base64
import uuid

import structlog

from hessian.artifacts.application import OpenApplication
from hessian.artifacts.codec import ArtifactRefused
from hessian.artifacts.market import Market
from hessian.artifacts.score_query import ScoreQuery
from hessian.chain.blocks import Receipt
from hessian.chain.deployment_events import ScoreRequested
from hessian.errors import Conflict, IpfsUnavailable, Unavailable, Violated
from hessian.identifiers import DeploymentId, digest_of
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from hessian.service.client import PeerRefused
from owner_api import tickets
from owner_api.applications import secrets
from owner_api.applications.offers import Offer, require_offer
from owner_api.applications.schemas import RedeemedScoreTicket
from owner_api.states import ApplicationMode, ApplicationState
from owner_api.tables import Application, OutgoingTransaction, Owner
from owner_api.tickets import TicketRefused
from owner_api.world import World

log = structlog.get_logger()
REQUEST_SCORE = "request-score"
_APPLICATION_AT_FAULT = ("JobRefused", "JobLimitExceeded")


class QueryNotComputed(Conflict):
    """The trainer refused to compute the query."""


class TrainerConfused(Unavailable):
    """The trainer did not answer with a query of this application."""


def market(world: World) -> Market:
    """The serving contract as artifacts name it."""
    return Market.at(world.chain.chain_id, world.deployment.address)


def open_application(world: World, application: Application) -> OpenApplication:
    """What is shown to the lender in open mode: always the same bytes, because all of it was sealed when the borrower applied."""
    return OpenApplication(
        market(world),
        DeploymentId(application.deployment_id),
        secrets.features_of(world.vault, application),
        secrets.salt_of(world.vault, application),
        application.answer_key,
    )


async def prepare(world: World, application_id: uuid.UUID) -> None:
    """One attempt. Raises Unavailable when it may be repeated, Refused when the application cannot be sent as things stand."""
    async with world.database.begin() as session:
        application = await session.get_one(Application, application_id)
    if application.state != ApplicationState.PREPARING:
        return
    offer = await require_offer(world, application.deployment_id)
    async with world.database.begin() as session:
        wants_query = application.mode == ApplicationMode.PRIVATE and application.query is None
        ticket = await tickets.issue_score(session, world.settings, application) if wants_query else None
    if ticket is not None:
        await _keep(world, application_id, await _compute(world, application, offer, ticket))
    await _publish(world, application_id)
    async with world.database.begin() as session:
        application = await _request(session, world, application_id, offer)
    if application.erased_at is not None and (query := application.published_query) is not None:
        await world.store.unpin(query)  # it was withdrawn while it was published


async def redeem(session: Session, world: World, ticket: str) -> RedeemedScoreTicket:
    """What the trainer needs for one query. Repeatable until the query is stored. Raises TicketRefused."""
    application = await session.get_one(Application, await tickets.take_score(session, ticket))
    if application.state != ApplicationState.PREPARING or application.query is not None:
        raise TicketRefused("the application this ticket stands for needs no computing any more")
    opening = secrets.opening_of(world.vault, application)
    return RedeemedScoreTicket(
        features=dict(opening.features),
        salt=opening.salt.hex(),
        blinding=f"{opening.blinding:x}",
        borrower_key=application.answer_key.hex(),
        chain_id=world.chain.chain_id,
        contract=application.contract,
        deployment_id=application.deployment_id,
        manifest_digest=application.manifest_digest.hex(),
        weights_digest=application.weights_digest.hex(),
        scoring_digest=application.scoring_digest.hex(),
    )


async def on_request_settled(world: World, session: Session, row: OutgoingTransaction, receipt: Receipt | None) -> None:
    """Outbox handler: a final request waits for its answer; a failed one has cost no fee."""
    application = await session.get_one(Application, uuid.UUID(row.subject), with_for_update=True)
    if row.state is TransactionState.FINAL and receipt is not None:
        said = [event for event in world.deployment.events_of(receipt) if isinstance(event, ScoreRequested)]
        if len(said) != 1 or said[0].query_digest != application.query_digest:
            raise Violated(f"the contract does not say which request application {application.id} made")
        application.request_id, application.deadline = said[0].request_id, said[0].deadline
        application.move_to(ApplicationState.WAITING)
    else:
        application.move_to(ApplicationState.FAILED, f"the request failed and no fee was paid: {row.failure}")
    log.info("application_requested", application_id=row.subject, request_id=application.request_id, state=application.state)


async def _compute(world: World, application: Application, offer: Offer, ticket: str) -> bytes:
    """The blinded query, checked to be this application's. Raises QueryNotComputed, TrainerConfused, Unavailable."""
    body = {
        "ticket": ticket,
        "manifest": base64.b64encode(offer.manifest_bytes).decode(),
        "scoring_model": base64.b64encode(offer.scoring_bytes).decode(),
    }
    try:
        data = (await world.trainer.request("POST", "/v1/score-queries", json=body)).content
        await asyncio.to_thread(_check, world, application, offer, data)
    except PeerRefused as error:
        if error.title in _APPLICATION_AT_FAULT:
            raise QueryNotComputed(error.detail) from error
        raise TrainerConfused(error.sentence) from error
    except ArtifactRefused as error:
        raise TrainerConfused(f"the trainer did not answer with a query of this application: {error.sentence}") from error
    return data


def _check(world: World, application: Application, offer: Offer, data: bytes) -> None:
    """Raises ArtifactRefused."""
    query = ScoreQuery.from_bytes(data)
    query.check_against(market(world), offer.deployment_id, application.scoring_digest, offer.manifest.public_key)
    commitment = secrets.opening_of(world.vault, application).commitment(offer.manifest.public_key)
    if (query.commitment, query.borrower_key) != (commitment, application.answer_key):
        raise ArtifactRefused("the query promises something else than this application's features")


async def _keep(world: World, application_id: uuid.UUID, query: bytes) -> None:
    """The query that counts is the first one stored; the borrower may have withdrawn in the meantime."""
    async with world.database.begin() as session:
        application = await session.get_one(Application, application_id, with_for_update=True)
        if application.state == ApplicationState.PREPARING and application.query is None:
            application.query, application.query_digest = query, digest_of(query)


async def _publish(world: World, application_id: uuid.UUID) -> None:
    """A query goes to IPFS. An open application does not: it is for the lender alone, and the borrower's own client carries it."""
    async with world.database.begin() as session:
        application = await session.get_one(Application, application_id, with_for_update=True)
        if application.state == ApplicationState.PREPARING and application.mode == ApplicationMode.OPEN:
            application.query_digest = open_application(world, application).digest
    if application.query is None:
        return
    digest = await world.store.put(application.query)
    if not await world.store.is_pinned(digest):
        raise IpfsUnavailable("the IPFS node took the query but does not keep it")


async def _request(session: Session, world: World, application_id: uuid.UUID, offer: Offer) -> Application:
    application = await session.get_one(Application, application_id, with_for_update=True)
    if application.state != ApplicationState.PREPARING or application.query_digest is None:
        return application
    owner = await session.get_one(Owner, application.owner_id)
    application.requests += 1
    application.move_to(ApplicationState.REQUESTING)
    await world.outbox.enqueue(
        session,
        business_key=f"{REQUEST_SCORE}:{application.id}:{application.requests}",
        sender=owner.address,
        call=world.deployment.request_score(offer.deployment_id, application.query_digest, fee=offer.record.fee),
        purpose=REQUEST_SCORE,
        subject=str(application.id),
    )
    log.info("request_enqueued", application_id=str(application.id), request=application.requests)
    return application
