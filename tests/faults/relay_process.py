"""A service with nothing but an outbox, as a process that kills itself where it is told to. Started by test_outbox_kill.py.

Reads one JSON object from standard input: database_url, rpc_url, private_key, kill_at (a Step, or null to run to the end), and the one call
that it wants to make: to, data, value. Like a real service it writes that intent at every start, under the same business key.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hessian.chain.binding import Call
from hessian.chain.blocks import Receipt
from hessian.chain.client import connect
from hessian.identifiers import Address, Wei
from hessian.outbox.outbox import Outbox
from hessian.outbox.relay import Relay, Step
from hessian.outbox.tables import OutboxRow, TransactionState
from hessian.postgres.engine import Database, naming_metadata, open_database
from hessian.postgres.session import Session

OPEN = (TransactionState.PENDING, TransactionState.SIGNED, TransactionState.SENT)


class Base(DeclarativeBase):
    """The tables of this one service."""

    metadata = naming_metadata()


class Transaction(OutboxRow, Base):
    """Its outbox."""


class Effect(Base):
    """One row per handler call that was committed."""

    __tablename__ = "effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]


async def note(session: Session, row: Any, _receipt: Receipt | None) -> None:
    """The only handler."""
    session.add(Effect(state=row.state.value))


async def watch(database: Database, stop: asyncio.Event) -> None:
    """Stop the relay once nothing is open."""
    while not stop.is_set():  # what it waits for happens in the database
        async with database.begin() as session:
            if (await session.execute(select(func.count()).where(Transaction.state.in_(OPEN)))).scalar_one() == 0:
                stop.set()
        await asyncio.sleep(0.05)


async def main(options: dict[str, Any]) -> None:
    """Relay until all is settled, or until the kill."""
    account: LocalAccount = Account.from_key(options["private_key"])

    async def signer_of(_sender: Address) -> LocalAccount:
        return account

    def on_step(step: Step, _row_id: int) -> None:
        if step == options["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    stop, outbox = asyncio.Event(), Outbox(Transaction)
    call = Call(Address(options["to"]), bytes.fromhex(options["data"]), Wei(options["value"]))
    async with open_database(options["database_url"]) as database, connect(options["rpc_url"]) as chain, asyncio.TaskGroup() as tasks:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with database.begin() as session:
            await outbox.enqueue(session, business_key="create", sender=Address(account.address), call=call, purpose="create", subject="")
        relay = Relay(database, chain, outbox, signer_of, {"create": note}, poll_seconds=0.05, idle_seconds=0.1, on_step=on_step)
        tasks.create_task(relay.run(stop))
        tasks.create_task(watch(database, stop))


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
