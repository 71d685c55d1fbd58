"""The lender has not answered in time: the borrower ends its request, and the fee is credited back to it."""

from __future__ import annotations

import structlog
from sqlalchemy import select

from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from owner_api.applications.requests import RequestView, application_of, view_request
from owner_api.contributions.rounds import NotFinalYet
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.tables import OutgoingTransaction, Owner
from owner_api.world import World

log = structlog.get_logger()
EXPIRE_REQUEST = "expire-request"


async def expire(world: World, request_id: int) -> OutcomeRead:
    """End an overdue request of this node. Raises NotFinalYet until a final block shows its end."""
    view = await view_request(world, request_id)
    async with world.database.begin() as session:
        outcome = await _expire_if_overdue(session, world, view)
    if outcome is None:
        raise NotFinalYet(f"request {request_id} is being ended")
    return outcome


async def _expire_if_overdue(session: Session, world: World, view: RequestView) -> OutcomeRead | None:
    """The answer when there is nothing to end; None when an expiry is with the outbox."""
    request_id = view.request_id
    application = await application_of(session, world, view)
    if application is None:
        return OutcomeRead(outcome=Outcome.FOREIGN)
    if not view.is_waiting:
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=f"request {request_id} is {view.request.state.name.lower()}")
    if not view.deadline_passed:
        raise NotFinalYet(f"the final block is before the deadline of request {request_id}")
    attempts = await _attempts(session, world, request_id)
    if attempts and attempts[-1].state is not TransactionState.FAILED:
        return None
    owner = await session.get_one(Owner, application.owner_id)
    await world.outbox.enqueue(
        session,
        business_key=f"{EXPIRE_REQUEST}:{world.deployment.address}:{request_id}:{len(attempts) + 1}",
        sender=owner.address,
        call=world.deployment.expire_request(view.request_id),
        purpose=EXPIRE_REQUEST,
        subject=str(request_id),
    )
    log.info("request_expiry_enqueued", request_id=request_id, attempt=len(attempts) + 1)
    return None


async def _attempts(session: Session, world: World, request_id: int) -> list[OutgoingTransaction]:
    row = OutgoingTransaction
    wanted = select(row).where(row.purpose == EXPIRE_REQUEST, row.subject == str(request_id), row.to == world.deployment.address)
    return list((await session.execute(wanted.order_by(row.id))).scalars())
