"""Rows become transactions: pending → signed (bytes saved and committed) → sent → final | failed.

Each sender is a lane of its own: in a lane the next row is signed once the one before is mined; lanes do not wait for each other. Any
number of relays may run on one table: signing happens under an advisory lock per sender, settling under the row's own lock, and the same
bytes sent twice harm nobody. Fees are not raised: a transaction whose cap the base fee overtook waits until the base fee falls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic

import structlog
from sqlalchemy import select

from hessian.chain.client import Chain
from hessian.chain.sender import InsufficientFunds
from hessian.errors import Unavailable
from hessian.identifiers import Address
from hessian.outbox.correlation import correlated
from hessian.outbox.courier import IN_FLIGHT, Courier, Handler, SignerOf, SignerUnknown, Step
from hessian.outbox.outbox import Outbox, RowT
from hessian.outbox.tables import TransactionState
from hessian.postgres.engine import Database

__all__ = ["Handler", "Relay", "SignerOf", "SignerUnknown", "Step"]

log = structlog.get_logger()

POLL_SECONDS = 0.2
IDLE_SECONDS = 2.0
RESEND_SECONDS = 2.0
LARGEST_BACKOFF = 8.0
_OPEN = (TransactionState.PENDING, *IN_FLIGHT)


def _no_step(_step: Step, _row_id: int) -> None: ...


class Relay(Generic[RowT]):
    """Sends what the outbox holds. `handlers` by purpose; a purpose without one needs none."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        outbox: Outbox[RowT],
        signer_of: SignerOf,
        handlers: Mapping[str, Handler],
        *,
        poll_seconds: float = POLL_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        resend_seconds: float = RESEND_SECONDS,
        on_step: Callable[[Step, int], None] = _no_step,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._row = outbox.row
        self._poll_seconds = poll_seconds
        self._idle_seconds = idle_seconds
        self._courier = Courier(database, chain, outbox.row, signer_of, handlers, resend_seconds=resend_seconds, on_step=on_step)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. What Unavailable breaks is tried again with backoff; anything else ends the loop, and with it the process."""
        lanes: dict[Address, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                self._outbox.nudge.clear()
                lanes = {sender: lane for sender, lane in lanes.items() if not lane.done()}
                for sender in await self._open_senders():
                    if sender not in lanes:
                        lanes[sender] = tasks.create_task(self._lane(sender, stop), name=f"outbox {sender}")
                await _first_of(stop, self._outbox.nudge, seconds=self._idle_seconds)

    async def _open_senders(self) -> list[Address]:
        try:
            async with self._database.begin() as session:
                return list((await session.execute(select(self._row.sender).where(self._row.state.in_(_OPEN)).distinct())).scalars())
        except Unavailable as error:
            log.warning("outbox_waits", reason=error.sentence)
            return []

    async def _lane(self, sender: Address, stop: asyncio.Event) -> None:
        """Work for one sender until nothing of it is open."""
        backoff = self._poll_seconds
        while not stop.is_set():
            try:
                if not await self._turn(sender):
                    self._outbox.nudge.set()  # a row written since then would else wait for the next idle look
                    return
                backoff = self._poll_seconds
            except Unavailable as error:
                backoff = min(LARGEST_BACKOFF, backoff * 2)
                log.warning("outbox_waits", sender=sender, reason=error.sentence, seconds=backoff)
            await _first_of(stop, self._outbox.nudge, seconds=backoff)

    async def _turn(self, sender: Address) -> bool:
        """Advance everything of one sender as far as it goes now; False when nothing is open."""
        async with self._database.begin() as session:
            query = select(self._row).where(self._row.sender == sender, self._row.state.in_(_OPEN)).order_by(self._row.id)
            rows = list((await session.execute(query)).scalars())
        in_flight = [row for row in rows if row.state is not TransactionState.PENDING]
        for row in in_flight:
            with correlated(row.call):
                await self._courier.follow(row)
        if all(row.block_number is not None for row in in_flight):
            await self._prepare_first([row for row in rows if row.state is TransactionState.PENDING])
        return bool(rows)

    async def _prepare_first(self, rows: list[RowT]) -> None:
        """Send the first row that can be: one the sender cannot pay for does not hold up the next, which may bring the money in."""
        waiting: InsufficientFunds | None = None
        for row in rows:
            try:
                with correlated(row.call):
                    if await self._courier.prepare(row):
                        return
            except InsufficientFunds as error:
                waiting = error
        if waiting is not None:
            raise waiting


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Wait for one of the events, or for the time to pass."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
