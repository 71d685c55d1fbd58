"""What an outbox table tells an operator."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from hessian.outbox.tables import OutboxRow, TransactionState
from hessian.postgres.session import Session

_OPEN = [state for state in TransactionState if not state.is_settled]


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """`next_nonce` is summed over the senders; `oldest_seconds` is how long the oldest open row has waited, by the database's clock."""

    by_state: dict[TransactionState, int]
    next_nonce: int
    oldest_seconds: float


async def read_figures(session: Session, table: type[OutboxRow]) -> OutboxFigures:
    """Every state is there, with zero rows if it has none."""
    counted = await session.execute(select(table.state, func.count().label("rows")).group_by(table.state))
    by_state = dict.fromkeys(TransactionState, 0) | {row.state: row.rows for row in counted}
    nonces = select((func.max(table.nonce) + 1).label("following")).where(table.nonce.is_not(None)).group_by(table.sender).subquery()
    next_nonce = (await session.execute(select(func.coalesce(func.sum(nonces.c.following), 0)))).scalar_one()
    age = func.extract("epoch", func.now() - func.min(table.created_at))
    oldest = (await session.execute(select(func.coalesce(age, 0)).where(table.state.in_(_OPEN)))).scalar_one()
    return OutboxFigures(by_state, int(next_nonce), float(oldest))
