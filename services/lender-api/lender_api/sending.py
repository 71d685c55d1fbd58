"""The way from an intent to the outbox: one business key per intent, a further attempt only after the one before has failed."""

from __future__ import annotations

from sqlalchemy import func, select

from hessian.chain.binding import Call
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from lender_api import tables
from lender_api.world import World


async def send(session: Session, world: World, *, intent: str, call: Call, purpose: str, subject: str) -> tables.Outbox:
    """The transaction that stands for `intent`: the one under way or done, else a new one. It leaves after `session` commits.

    A failed transaction was refused by the contract; asking again is legitimate once the chain's state allows it, hence the attempt's
    number in the key.
    """
    row = tables.Outbox
    failed = (
        await session.execute(
            select(func.count())
            .select_from(row)
            .where(row.business_key.startswith(f"{intent}:", autoescape=True), row.state == TransactionState.FAILED)
        )
    ).scalar_one()
    return await world.outbox.enqueue(
        session, business_key=f"{intent}:{failed + 1}", sender=world.keys.address, call=call, purpose=purpose, subject=subject
    )


async def is_under_way(session: Session, *, purpose: str, subject: str, besides: str) -> bool:
    """Whether a transaction of this purpose and subject is not settled yet, other than those of the intent `besides`."""
    row = tables.Outbox
    query = select(row.id).where(
        row.purpose == purpose,
        row.subject == subject,
        row.state.in_([state for state in TransactionState if not state.is_settled]),
        ~row.business_key.startswith(f"{besides}:", autoescape=True),
    )
    return (await session.execute(query.limit(1))).first() is not None
