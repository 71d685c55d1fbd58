"""A deadline has passed: this node's members end the round, one wallet after the other until a final block shows it ended."""

from __future__ import annotations

import structlog
from sqlalchemy import select

from hessian.chain.repository import RoundUnknown
from hessian.identifiers import RoundId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from owner_api.contributions.rounds import NotFinalYet, local_members, view_round
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.tables import OutgoingTransaction
from owner_api.world import World

log = structlog.get_logger()
EXPIRE = "expire"


async def expire(world: World, round_id: int) -> OutcomeRead:
    """End an overdue round. Raises NotFinalYet until a final block shows its end; RoundUnknown: such a round was final long ago."""
    async with world.database.begin() as session:
        outcome = await _expire_if_overdue(session, world, round_id)
    if outcome is None:
        raise NotFinalYet(f"round {round_id} is being ended")
    return outcome


async def _expire_if_overdue(session: Session, world: World, round_id: int) -> OutcomeRead | None:
    """The answer when there is nothing to end; None when an expiry is with the outbox."""
    try:
        view = await view_round(world, round_id)
    except NotFinalYet as error:
        raise RoundUnknown(f"there is no round {round_id} on chain") from error
    members = await local_members(session, view.round.cohort_id)
    if not members:
        return OutcomeRead(outcome=Outcome.FOREIGN)
    if not view.round.state.is_in_flight:
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=view.standing)
    if not view.deadline_passed:
        raise NotFinalYet(f"the final block is before the deadline of round {round_id}")
    attempts = await _attempts(session, world, round_id)
    if attempts and attempts[-1].state is not TransactionState.FAILED:
        return None
    _, owner = members[len(attempts) % len(members)]  # a wallet that has run out of ether does not stand in the way of the others
    await world.outbox.enqueue(
        session,
        business_key=f"{EXPIRE}:{world.repository.address}:{round_id}:{len(attempts) + 1}",
        sender=owner.address,
        call=world.repository.expire_round(RoundId(round_id)),
        purpose=EXPIRE,
        subject=str(round_id),
    )
    log.info("expiry_enqueued", round_id=round_id, sender=owner.address, attempt=len(attempts) + 1)
    return None


async def _attempts(session: Session, world: World, round_id: int) -> list[OutgoingTransaction]:
    row = OutgoingTransaction
    wanted = select(row).where(row.purpose == EXPIRE, row.subject == str(round_id), row.to == world.repository.address)
    return list((await session.execute(wanted.order_by(row.id))).scalars())
