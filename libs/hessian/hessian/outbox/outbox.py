"""Writing into the outbox: one row per intent, in the caller's own transaction."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from sqlalchemy import event, select
from sqlalchemy.dialects.postgresql import insert

from hessian.chain.binding import Call
from hessian.errors import Conflict
from hessian.identifiers import Address
from hessian.outbox.tables import OutboxRow, TransactionState
from hessian.postgres.session import Session

RowT = TypeVar("RowT", bound=OutboxRow)


class BusinessKeyReused(Conflict):
    """This business key names another transaction."""


class Outbox(Generic[RowT]):
    """One service's outbox. `row` is its mapped class; `nudge` wakes its relay after a commit that added to it."""

    def __init__(self, row: type[RowT]) -> None:
        self.row = row
        self.nudge = asyncio.Event()

    async def enqueue(self, session: Session, *, business_key: str, sender: Address, call: Call, purpose: str, subject: str) -> RowT:
        """The row that stands for this intent: new, or the one written earlier under the same key, whatever became of it.

        Nothing leaves before `session` commits. An earlier row keeps its own call, so that a retry that would word it differently
        (fresh randomness, another deadline) still is the same intent. Raises BusinessKeyReused when key and sender or purpose disagree.
        """
        added = await session.execute(
            insert(self.row)
            .values(
                business_key=business_key,
                sender=sender,
                to=call.to,
                value=call.value,
                data=call.data,
                purpose=purpose,
                subject=subject,
                state=TransactionState.PENDING,
            )
            .on_conflict_do_nothing(index_elements=["business_key"])
            .returning(self.row.id)
        )
        if added.scalar_one_or_none() is not None:
            event.listen(session.sync_session, "after_commit", lambda _: self.nudge.set(), once=True)
        row = (await session.execute(select(self.row).where(self.row.business_key == business_key))).scalar_one()
        if (row.sender, row.purpose) != (sender, purpose):
            raise BusinessKeyReused(f"the key {business_key!r} belongs to another transaction")
        return row

    async def find(self, session: Session, business_key: str) -> RowT | None:
        """The row of an intent, None when there is none."""
        return (await session.execute(select(self.row).where(self.row.business_key == business_key))).scalar_one_or_none()
