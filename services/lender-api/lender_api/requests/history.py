"""The rows of requests: made when a request is seen, brought in step with the chain, told to the lender."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, func, not_, or_, select
from sqlalchemy.dialects.postgresql import insert

from hessian.chain.blocks import Block, Receipt
from hessian.chain.deployment import RequestUnknown
from hessian.chain.deployment_events import ScoreAnswered, decode_all
from hessian.chain.deployment_records import DeploymentRecord, RequestRecord, RequestState
from hessian.errors import ChainUnavailable, NotFound
from hessian.identifiers import RequestId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from hessian.service.fields import Page, next_cursor
from lender_api import tables
from lender_api.deployments.service import by_chain_id
from lender_api.requests.schemas import RequestDetail, RequestRead
from lender_api.requests.served import Served
from lender_api.tables import Deployment, ScoreRequest
from lender_api.world import World

LONGEST_MARGIN = 120
"""Seconds before a request's deadline in which no answer is begun or published any more: ten blocks of twelve seconds. A fifth of the
answer window, where that is less."""

_MARGIN_SHARE = 5

WAITING, ANSWERED, EXPIRED = (state.name.lower() for state in (RequestState.WAITING, RequestState.ANSWERED, RequestState.EXPIRED))


class RequestNotOurs(NotFound):
    """This lender has no such request, or does not know of it yet."""


class RequestNotFinal(ChainUnavailable):
    """The final block does not show the request yet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request and its deployment, both of one final block; `head` is the tip after it, whose clock the deadline is counted by."""

    block: Block
    head: Block
    request_id: RequestId
    request: RequestRecord
    deployment: DeploymentRecord

    @property
    def requested_at(self) -> int:
        """When it was made, by the chain's clock: the contract sets the deadline so."""
        return self.request.deadline - self.deployment.answer_window

    def is_too_late(self, head: Block) -> bool:
        """Whether an answer that sets out now may be mined after the deadline: the contract would refuse it and give the fee back, and its
        digest would be in the refused transaction for the borrower to read."""
        return head.timestamp + min(LONGEST_MARGIN, self.deployment.answer_window // _MARGIN_SHARE) > self.request.deadline

    @property
    def lateness(self) -> str:
        """Why it is left unanswered then."""
        return f"the answer window of request {self.request_id} ended at {self.request.deadline}, or is too near its end"


async def see(world: World, request_id: RequestId) -> Seen:
    """Raises RequestNotFinal, ChainUnavailable."""
    block = await world.chain.final_block()
    try:
        record = await world.deployment.request(request_id, block)
    except RequestUnknown as error:
        raise RequestNotFinal(f"the final block {block.number} does not show request {request_id} yet") from error
    deployment = await world.deployment.deployment(record.deployment_id, block)
    return Seen(block, await world.chain.head_block(), request_id, record, deployment)


async def own_rows(session: Session, seen: Seen) -> tuple[Deployment, ScoreRequest] | None:
    """Our rows, the request's made on first sight, brought in step and locked; None when this database never made the deployment.

    Raises DeploymentNotSettled.
    """
    deployment = await by_chain_id(session, seen.request.deployment_id)
    if deployment is None:
        return None
    await session.execute(
        insert(ScoreRequest)
        .values(
            request_id=seen.request_id,
            deployment=deployment.id,
            requester=seen.request.requester,
            state=WAITING,
            query_digest=seen.request.query_digest,
            requested_at=seen.requested_at,
            deadline=seen.request.deadline,
        )
        .on_conflict_do_nothing(index_elements=["request_id"])
    )
    query = select(ScoreRequest).where(ScoreRequest.request_id == seen.request_id)
    row = (await session.execute(query.with_for_update().execution_options(populate_existing=True))).scalar_one()
    follow(row, seen.request)
    return deployment, row


def follow(row: ScoreRequest, record: RequestRecord) -> None:
    """Take over what the contract says; an older block changes nothing."""
    if row.state == WAITING:
        row.state = record.state.name.lower()
        if row.state == EXPIRED and row.reason is None:
            row.reason = "it was not answered in time"


async def earlier_quote(session: Session, served: Served, row: ScoreRequest, final: Block) -> int | None:
    """Another request of the same account that this model's key answered within one period of this one, before or after it.

    An answer that came too late counts as well, for its borrower may have read it in spite of the refund, unless it was never published, or
    this request asks the same again and learns nothing new.

    Holds a lock on the pair of account and model until the transaction ends: of two requests at once one is answered.
    """
    lock = func.hashtextextended(f"quote {served.model} {row.requester}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(lock)))
    period = served.policy.quote_period_seconds
    is_over = or_(ScoreRequest.state == EXPIRED, and_(ScoreRequest.state == WAITING, ScoreRequest.deadline < final.timestamp))
    tells_nothing = or_(not_(ScoreRequest.is_published), ScoreRequest.query_digest == row.query_digest)
    query = (
        select(ScoreRequest.request_id)
        .join(Deployment, ScoreRequest.deployment == Deployment.id)
        .where(
            Deployment.model == served.model,
            ScoreRequest.requester == row.requester,
            ScoreRequest.request_id != row.request_id,
            ScoreRequest.answer_digest.is_not(None),
            not_(and_(is_over, tells_nothing)),
            ScoreRequest.requested_at > row.requested_at - period,
            ScoreRequest.requested_at < row.requested_at + period,
        )
    )
    return (await session.execute(query.limit(1))).scalar_one_or_none()


async def page(session: Session, world: World, deployment: Deployment, *, after: int, limit: int) -> Page[RequestRead]:
    """A deployment's requests in order. Those that wait are read from the final block first: they may have expired."""
    query = (
        select(ScoreRequest)
        .where(ScoreRequest.deployment == deployment.id, ScoreRequest.number > after)
        .order_by(ScoreRequest.number)
        .limit(limit + 1)
    )
    rows = list((await session.execute(query)).scalars())
    await _refresh(session, world, rows)
    cursor = next_cursor(rows[limit - 1].number) if len(rows) > limit else None
    return Page(items=[RequestRead.of(row, deployment) for row in rows[:limit]], next=cursor)


async def detail(session: Session, world: World, request_id: RequestId) -> RequestDetail:
    """One request with the features it showed. Raises RequestNotOurs, KeyLost."""
    row = (await session.execute(select(ScoreRequest).where(ScoreRequest.request_id == request_id))).scalar_one_or_none()
    if row is None:
        raise RequestNotOurs
    await _refresh(session, world, [row])
    await session.refresh(row, ["sealed_features"])
    deployment = (await session.execute(select(Deployment).where(Deployment.id == row.deployment))).scalar_one()
    return RequestDetail.model_validate({**RequestRead.of(row, deployment).model_dump(), "features": world.keys.open_features(row)})


async def _refresh(session: Session, world: World, rows: list[ScoreRequest]) -> None:
    waiting = [row for row in rows if row.state == WAITING]
    if waiting:
        block = await world.chain.final_block()
        for row in waiting:
            follow(row, await world.deployment.request(RequestId(row.request_id), block))
        await session.flush()


async def on_answered(session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: the answer is anchored, or the contract refused it."""
    request = (
        await session.execute(select(ScoreRequest).where(ScoreRequest.request_id == int(row.subject)).with_for_update())
    ).scalar_one()
    if receipt is None or row.state is not TransactionState.FINAL:
        request.reason = f"the answer could not be anchored: {row.failure}"
        return
    for said in decode_all(receipt.logs, row.to):
        if isinstance(said, ScoreAnswered):
            request.state, request.reason = ANSWERED, None
