"""Answering a request: fetched, checked, scored, decided and sealed once, stored, published, then anchored.

A query that is one is answered, whatever it holds: any ciphertext decodes to some score. One that is none, or comes too often, is left
unanswered: the reason is stored, the contract gives the fee back. A repeated call sends the very same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hessian.artifacts.application import OpenApplication
from hessian.artifacts.score_answer import Quote, ScoreAnswer
from hessian.artifacts.score_query import ScoreQuery
from hessian.chain.deployment_records import RequestState
from hessian.errors import Refused
from hessian.identifiers import Digest, RequestId, Timestamp, digest_of
from hessian.lending.decision import decide, reasons_for_decline
from hessian.postgres.session import Session
from lender_api.models.preparation import put_pinned
from lender_api.requests.history import Seen, earlier_quote, own_rows, see
from lender_api.requests.served import Served, served_by
from lender_api.rounds.schemas import Outcome, done, foreign, pending, superseded
from lender_api.sending import send
from lender_api.tables import ScoreRequest
from lender_api.world import World

log = structlog.get_logger()

ANSWER = "answer_score"
PRIVATE, OPEN = "private", "open"


@dataclass(frozen=True, slots=True, repr=False)
class Answered:
    """A score, what it came to, and the bytes that tell the borrower; `query` is kept for the acceptance."""

    mode: str
    score: int
    quote: Quote
    answer: bytes
    query: bytes | None = None


async def answer(world: World, request_id: RequestId) -> Outcome:
    """A private query, from IPFS. In open mode there is none to be had; the features may come by `assess` as long as this is asked again.

    Raises RequestNotFinal, DeploymentNotSettled, LookupRefused, QueryNotFound, IpfsUnavailable, ChainUnavailable, KeyLost.
    """
    seen = await see(world, request_id)
    if seen.deployment.lender != world.keys.address:
        return foreign()
    async with world.database.begin() as session:
        begun = await begin(session, world, seen)
    if isinstance(begun, Outcome):
        world.lookups.forget(request_id)
        return begun
    if not begun.is_stored:
        try:
            data = await world.lookups.get(world.store, request_id, seen.request)
            answered = await asyncio.to_thread(_score_query, begun.served, seen, data)
        except Refused as error:
            return await _leave_unanswered(world, seen, error.sentence)
        if reason := await store(world, seen, begun.served, answered):
            return await _leave_unanswered(world, seen, reason)
    return await publish(world, seen)


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that may be answered: what with, and whether the answer is stored already."""

    served: Served
    is_stored: bool


async def begin(session: Session, world: World, seen: Seen) -> Begun | Outcome:
    """What there is to do for a request, or why nothing is. Raises DeploymentNotSettled, KeyLost."""
    rows = await own_rows(session, seen)
    if rows is None:
        return foreign(f"deployment {seen.request.deployment_id} is not in this database")
    deployment, row = rows
    if seen.request.state is RequestState.ANSWERED:
        return done(f"request {seen.request_id} is answered")
    if seen.request.state is RequestState.EXPIRED:
        return superseded(f"request {seen.request_id} has expired")
    if seen.is_too_late(seen.head):
        return _left_too_late(seen, row)
    served = await served_by(session, world, deployment)
    if row.answer_digest is None:
        if row.reason is None and (other := await earlier_quote(session, served, row, seen.block)) is not None:
            row.reason = _too_often(served, other)
        if row.reason is not None:
            return done(f"left unanswered: {row.reason}")
    return Begun(served, row.answer_digest is not None)


async def store(
    world: World, seen: Seen, served: Served, answered: Answered, keep: Callable[[ScoreRequest], None] | None = None
) -> str | None:
    """Make it the request's answer, unless another call was quicker: then that one's stays. Why it may not be answered, if so."""
    async with world.database.begin() as session:
        rows = await own_rows(session, seen)
        if rows is None or rows[1].answer_digest is not None:
            return None
        row = rows[1]
        if (other := await earlier_quote(session, served, row, seen.block)) is not None:
            return _too_often(served, other)
        decision = answered.quote.decision
        row.mode, row.score, row.query, row.reason = answered.mode, answered.score, answered.query, None
        row.is_approved, row.band, row.pd_bps, row.rate_bps = decision.approved, decision.band, decision.pd_bps, decision.rate_bps
        row.reasons, row.valid_until = list(answered.quote.reasons), answered.quote.valid_until
        row.answer, row.answer_digest = answered.answer, digest_of(answered.answer)
        if keep is not None:
            keep(row)
    log.info("request_answered", request_id=seen.request_id, mode=answered.mode)
    return None


async def publish(world: World, seen: Seen) -> Outcome:
    """Publish what is stored, then anchor it, unless scoring took until shortly before the deadline.

    Raises IpfsUnavailable, PinMissing, ChainUnavailable.
    """
    head = await world.chain.head_block()
    async with world.database.begin() as session:
        rows = await own_rows(session, seen)
        if rows is None:
            return foreign()
        row = rows[1]
        if seen.is_too_late(head):
            return _left_too_late(seen, row)
        await session.refresh(row, ["answer"])
        content = row.answer or b""
        row.is_published = True  # before it is: whoever reads it in spite of a failure has had its quote
    digest = await put_pinned(world.store, content)
    async with world.database.begin() as session:
        call = world.deployment.answer_score(seen.request_id, digest)
        await send(session, world, intent=f"answer:{seen.request_id}", call=call, purpose=ANSWER, subject=str(seen.request_id))
    return pending()


def score_open(served: Served, seen: Seen, application: OpenApplication) -> Answered:
    """The answer to features that the borrower has shown. Raises ApplicationRefused, ArtifactRefused."""
    entries = served.encoded(application.features)
    score = served.score_of(entries)
    return _seal(served, seen, OPEN, score, application.borrower_key, entries=entries)


def _score_query(served: Served, seen: Seen, data: bytes) -> Answered:
    """Raises ArtifactRefused."""
    query = ScoreQuery.from_bytes(data)
    score = served.private_key.decrypt_blinded(served.ciphertext_of(query), served.scale.blinding_bits)
    return _seal(served, seen, PRIVATE, score, query.borrower_key, query=data)


def _seal(
    served: Served, seen: Seen, mode: str, score: int, borrower_key: bytes, *, query: bytes | None = None, entries: list[int] | None = None
) -> Answered:
    decision = decide(served.policy, served.table, score)
    declined_openly = entries is not None and not decision.approved
    reasons = reasons_for_decline(served.policy, served.manifest.specification, served.weights, entries or []) if declined_openly else ()
    quote = Quote(decision, Timestamp(seen.head.timestamp + served.policy.quote_valid_seconds), reasons)
    digest: Digest = seen.request.query_digest
    sealed = ScoreAnswer.seal(served.market, seen.request_id, digest, borrower_key, quote).to_bytes()
    return Answered(mode, score, quote, sealed, query)


def _left_too_late(seen: Seen, row: ScoreRequest) -> Outcome:
    row.reason = row.reason or "this node came too late to answer it"
    return superseded(seen.lateness)


async def _leave_unanswered(world: World, seen: Seen, reason: str) -> Outcome:
    async with world.database.begin() as session:
        rows = await own_rows(session, seen)
        if rows is not None and rows[1].answer_digest is None:
            rows[1].reason = reason
    log.info("request_left_unanswered", request_id=seen.request_id, reason=reason)
    return done(f"left unanswered: {reason}")


def _too_often(served: Served, other: int) -> str:
    return f"request {other} of the same account got its quote within {served.policy.quote_period_seconds} s of this one"
