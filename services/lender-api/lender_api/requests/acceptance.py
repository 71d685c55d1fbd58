"""A borrower opens its application, and the lender stands by its quote (PROTOCOL §10).

Anybody may call. The opening is judged before anything is said of the quote: whoever cannot open the commitment learns neither the decision
nor its end, and nothing is decrypted for it. A commitment has one opening, so that a query is decrypted once however often it is shown. A
right opening of an approval that still holds is confirmed once; the same again is told the same.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog
from sqlalchemy import select, update

from hessian.artifacts.application import OpenApplication, Opening
from hessian.artifacts.market import Market
from hessian.artifacts.score_query import ScoreQuery
from hessian.errors import Conflict
from hessian.identifiers import DeploymentId, RequestId, Timestamp
from lender_api.requests.answering import PRIVATE
from lender_api.requests.history import ANSWERED, RequestNotOurs, follow, see
from lender_api.requests.schemas import AcceptanceRead, AcceptQuote
from lender_api.requests.served import Served, served_by
from lender_api.tables import Deployment, ScoreRequest
from lender_api.world import World

log = structlog.get_logger()


class OpeningRefused(Conflict):
    """This is not what the request was made with."""


class QuoteMissing(Conflict):
    """No final block shows an answer to this request."""


class QuoteExpired(Conflict):
    """The quote has expired."""


class QuoteDeclined(Conflict):
    """The request was declined: there is nothing to accept."""


async def accept(world: World, request_id: RequestId, shown: AcceptQuote) -> AcceptanceRead:
    """Raises RequestNotOurs, OpeningRefused, QuoteMissing, QuoteExpired, QuoteDeclined, KeyLost, ChainUnavailable."""
    one_at_a_time = world.openings.setdefault(request_id, asyncio.Lock())
    async with one_at_a_time:
        if not await _is_what_was_asked(world, request_id, shown):
            raise OpeningRefused
    seen = await see(world, request_id)
    async with world.database.begin() as session:
        locked = select(ScoreRequest).where(ScoreRequest.request_id == request_id).with_for_update()
        row = (await session.execute(locked)).scalar_one()
        follow(row, seen.request)
        if row.accepted_at is None:
            _require_holding(row, seen.block.timestamp)
            row.accepted_at = datetime.fromtimestamp(seen.block.timestamp, UTC)
            row.sealed_features = world.keys.seal_features(row, shown.features)
            log.info("quote_accepted", request_id=request_id, rate_bps=row.rate_bps)
        return AcceptanceRead(
            request_id=request_id,
            pd_bps=row.pd_bps or 0,
            rate_bps=row.rate_bps or 0,
            valid_until=row.valid_until or 0,
            accepted_at=row.accepted_at,
        )


async def _is_what_was_asked(world: World, request_id: RequestId, shown: AcceptQuote) -> bool:
    """Raises RequestNotOurs, KeyLost."""
    async with world.database.begin() as session:
        row = (await session.execute(select(ScoreRequest).where(ScoreRequest.request_id == request_id))).scalar_one_or_none()
        if row is None:
            raise RequestNotOurs
        await session.refresh(row, ["query"])
        deployment = (await session.execute(select(Deployment).where(Deployment.id == row.deployment))).scalar_one()
        served = await served_by(session, world, deployment)
    if shown.query_digest != row.query_digest or row.answer_digest is None:
        return False
    if row.mode != PRIVATE:
        return _is_open_application(world, served, row, shown)
    if row.query is None or shown.blinding is None:
        return False
    query, opening = ScoreQuery.from_bytes(row.query), Opening(shown.features, shown.salt, int(shown.blinding, 16))
    if not served.is_committed_to(query, opening):
        return False
    if row.opening_holds is None:
        row.opening_holds = await asyncio.to_thread(served.is_opening_of, query, opening)
        async with world.database.begin() as session:
            same = update(ScoreRequest).where(ScoreRequest.request_id == request_id)
            await session.execute(same.values(opening_holds=row.opening_holds))
    return row.opening_holds


def _is_open_application(world: World, served: Served, row: ScoreRequest, shown: AcceptQuote) -> bool:
    if shown.borrower_key is None:
        return False
    market = Market.at(world.chain.chain_id, world.deployment.address)
    application = OpenApplication(market, DeploymentId(served.deployment_id), shown.features, shown.salt, shown.borrower_key)
    return application.digest == row.query_digest


def _require_holding(row: ScoreRequest, now: Timestamp) -> None:
    """Raises QuoteMissing, QuoteDeclined, QuoteExpired."""
    if row.state != ANSWERED or row.valid_until is None:
        raise QuoteMissing
    if not row.is_approved:
        raise QuoteDeclined
    if now > row.valid_until:
        raise QuoteExpired(f"the quote was valid until {row.valid_until}; the final block is of {now}")
