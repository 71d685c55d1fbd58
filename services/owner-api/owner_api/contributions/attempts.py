"""A contribution's transactions: a further attempt only after the one before has failed, and always the same content.

A transaction fails before it is signed too, and that may be no more than the word of an Ethereum node that lags behind. Submission and
unlock are therefore sent again while a final block shows their window open and this member's part missing: silence would cost the bond.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select

from hessian.chain.binding import Call
from hessian.chain.blocks import Receipt
from hessian.chain.records import RoundState
from hessian.errors import Violated
from hessian.identifiers import RoundId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from owner_api.contributions.preparing import seed_of
from owner_api.contributions.rounds import view_round
from owner_api.states import ContributionState
from owner_api.tables import Contribution, OutgoingTransaction
from owner_api.world import World

log = structlog.get_logger()
SUBMIT = "submit"
UNLOCK = "unlock"
LONGEST_PAUSE = 60
_PURPOSES = {ContributionState.SUBMITTED: SUBMIT, ContributionState.UNLOCKED: UNLOCK}


async def send(session: Session, world: World, contribution: Contribution) -> None:
    """Hand what the contribution's state stands for to the outbox. It leaves after `session` commits."""
    purpose = _PURPOSES[ContributionState(contribution.state)]
    attempt = len(await _attempts(session, contribution)) + 1
    await world.outbox.enqueue(
        session,
        business_key=f"{purpose}:{world.repository.address}:{contribution.round_id}:{contribution.member}:{attempt}",
        sender=contribution.member,
        call=_call(world, contribution),
        purpose=purpose,
        subject=str(contribution.id),
    )
    log.info("sending_enqueued", purpose=purpose, round_id=contribution.round_id, member=contribution.member, attempt=attempt)


async def has_failed(session: Session, contribution: Contribution) -> bool:
    """Whether the last attempt at what the contribution's state stands for has failed."""
    attempts = await _attempts(session, contribution)
    return bool(attempts) and attempts[-1].state is TransactionState.FAILED


async def send_again(session: Session, world: World, enrollment_id: uuid.UUID) -> None:
    """Repeat what has failed and is still wanted at the final block, after a pause that doubles. Raises Unavailable."""
    wanted = select(Contribution).where(Contribution.enrollment_id == enrollment_id, Contribution.state.in_(_PURPOSES))
    for contribution in (await session.execute(wanted.with_for_update())).scalars():
        attempts = await _attempts(session, contribution)
        if not attempts or attempts[-1].state is not TransactionState.FAILED:
            continue
        pause = timedelta(seconds=min(LONGEST_PAUSE, 2 ** len(attempts)))
        if datetime.now(UTC) >= attempts[-1].updated_at + pause and await _is_missing(world, contribution):
            contribution.reason = None
            with structlog.contextvars.bound_contextvars(correlation_id=f"round-{contribution.round_id}"):
                await send(session, world, contribution)


async def on_sending_settled(session: Session, row: OutgoingTransaction, receipt: Receipt | None) -> None:
    """Outbox handler: a failure leaves its reason; the round's own end decides what becomes of the contribution.

    An unlock that reached no block may not have been seen by anybody: u_i does not stay behind in clear.
    """
    if row.state is not TransactionState.FAILED:
        return
    contribution = await session.get_one(Contribution, uuid.UUID(row.subject), with_for_update=True)
    contribution.reason = f"{row.purpose} failed: {row.failure}"
    if row.purpose == UNLOCK and receipt is None:
        row.data, row.raw = b"", None
    log.warning("sending_failed", purpose=row.purpose, round_id=contribution.round_id, member=contribution.member, reason=row.failure)


async def _attempts(session: Session, contribution: Contribution) -> list[OutgoingTransaction]:
    purpose = _PURPOSES[ContributionState(contribution.state)]
    row = OutgoingTransaction
    wanted = select(row).where(row.purpose == purpose, row.subject == str(contribution.id)).order_by(row.id)
    return list((await session.execute(wanted)).scalars())


async def _is_missing(world: World, contribution: Contribution) -> bool:
    view = await view_round(world, contribution.round_id)
    own = view.round.submissions[contribution.member_index]
    if contribution.state == ContributionState.SUBMITTED:
        return view.is_in(RoundState.SUBMITTING) and not own.is_submitted
    return view.is_in(RoundState.UNLOCKING) and not own.is_unlocked


def _call(world: World, contribution: Contribution) -> Call:
    round_id = RoundId(contribution.round_id)
    if contribution.state == ContributionState.UNLOCKED:
        return world.repository.unlock(round_id, seed_of(world.vault, contribution))
    if contribution.gradient_digest is None:
        raise Violated(f"the contribution to round {round_id} is {contribution.state} without an artifact")
    return world.repository.submit_gradient(round_id, contribution.gradient_digest, contribution.unlock_commitment)
