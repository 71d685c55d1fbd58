"""One transaction's way: preflight, sign, save, send, see it mined, see it final.

Every step starts from what is saved, so that the next one can be done by whoever comes after a crash. Signing happens under an advisory
lock per sender and settling under the row's own lock: any number of relays may work on one table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select

from hessian import tracing
from hessian.chain.blocks import Receipt, TransactionHash
from hessian.chain.client import Chain
from hessian.chain.sender import Broadcast, Sender, Signed
from hessian.errors import NotFound, Refused, Unavailable, Violated
from hessian.identifiers import Address
from hessian.metrics import REORG_DEPTH, REORGS, TX_BROADCAST_SECONDS, TX_FAILED, TX_FINAL_SECONDS, TX_PUBLISH_ERRORS
from hessian.outbox.correlation import subject_of
from hessian.outbox.outbox import RowT
from hessian.outbox.tables import OutboxRow, TransactionState
from hessian.postgres.engine import Database
from hessian.postgres.session import Session

log = structlog.get_logger()

IN_FLIGHT = (TransactionState.SIGNED, TransactionState.SENT)

Handler = Callable[[Session, Any, Receipt | None], Awaitable[None]]
"""Called once, with the settled row (FINAL or FAILED), in the transaction that settles it. The receipt is None when nothing was mined."""

SignerOf = Callable[[Address], Awaitable[LocalAccount]]
"""The account of a sender. Raises Refused (SignerUnknown) when it is not ours to use."""


class Step(StrEnum):
    """Where a fault test may stop a courier."""

    PREPARED = "prepared"  # preflight passed, nothing signed
    SIGNED = "signed"  # bytes saved, not sent
    BROADCAST = "broadcast"  # sent, not recorded
    CONCLUDED = "concluded"  # final on chain, not recorded


class SignerUnknown(NotFound):
    """There is no key for this sender here."""


class Courier(Generic[RowT]):
    """Takes rows of one table to their end, one step per call."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        table: type[RowT],
        signer_of: SignerOf,
        handlers: Mapping[str, Handler],
        *,
        resend_seconds: float,
        on_step: Callable[[Step, int], None],
    ) -> None:
        self._database = database
        self._chain = chain
        self._sender = Sender(chain)
        self._row = table
        self._signer_of = signer_of
        self._handlers = handlers
        self._resend_seconds = resend_seconds
        self._on_step = on_step
        self._sent_at: dict[int, float] = {}
        self._looked_at: dict[int, float] = {}

    async def prepare(self, row: RowT) -> bool:
        """Preflight, sign, save, send; False when the row failed its preflight instead, or another relay was quicker."""
        try:
            account = await self._signer_of(row.sender)
            quote = await self._sender.quote(row.sender, row.call)
        except Refused as error:
            await self._settle(row, TransactionState.FAILED, failure=error.sentence)
            return False
        self._on_step(Step.PREPARED, row.id)
        async with self._database.begin() as session:
            # without the lock two relays could sign two rows of one sender under one nonce
            await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"outbox {row.sender}", 0))))
            fresh = await self._locked(session, row, TransactionState.PENDING)
            if fresh is None or await self._is_busy(session, row.sender):
                return False
            highest = (await session.execute(select(func.max(self._row.nonce)).where(self._row.sender == row.sender))).scalar_one()
            nonce = max(await self._sender.next_nonce(row.sender), -1 if highest is None else highest + 1)
            signed = self._sender.sign(account, row.call, quote, nonce=nonce)
            fresh.move_to(TransactionState.SIGNED)
            fresh.nonce, fresh.raw, fresh.transaction_hash = signed.nonce, signed.raw, signed.transaction_hash
        self._on_step(Step.SIGNED, row.id)
        log.info(
            "transaction_signed", purpose=row.purpose, subject=row.subject, sender=row.sender, nonce=nonce, tx_hash=signed.transaction_hash
        )
        await self._send(fresh)
        return True

    async def follow(self, row: RowT) -> None:
        """Take a signed row to its end: send, see it mined, see it final. `row` is brought up to date on the way."""
        if row.state is TransactionState.SIGNED:
            await self._send(row)
            return
        final = await self._chain.final_block()
        if row.block_number is not None and row.block_number > final.number and not self._is_due(self._looked_at, row):
            return
        receipt = await self._chain.receipt(_signed(row).transaction_hash)
        self._looked_at[row.id] = time.monotonic()
        if receipt is None:
            await self._note_mined(row, None)
            await self._send_again(row)
        elif receipt.block.number > final.number:
            await self._note_mined(row, receipt)
        else:
            self._on_step(Step.CONCLUDED, row.id)
            await self._conclude(row, receipt)

    async def _send(self, row: RowT) -> None:
        """Broadcast the saved bytes and note that a node has had them, whatever it says of the nonce: `follow` finds out."""
        await self._broadcast(row)
        self._on_step(Step.BROADCAST, row.id)
        async with self._database.begin() as session:
            fresh = await self._locked(session, row, TransactionState.SIGNED)
            if fresh is not None:
                fresh.move_to(TransactionState.SENT)
        if fresh is not None:
            TX_BROADCAST_SECONDS.labels(purpose=row.purpose).observe(_age(row))

    async def _send_again(self, row: RowT) -> None:
        """A transaction that is in no block may have been dropped, by the node or by a reorganisation: send the same bytes again."""
        if not self._is_due(self._sent_at, row) or await self._broadcast(row) is not Broadcast.NONCE_USED:
            return
        signed = _signed(row)
        if await self._sender.final_nonce(row.sender) > signed.nonce and await self._chain.receipt(signed.transaction_hash) is None:
            reason = f"another transaction of {row.sender} took nonce {row.nonce}: its key is in use elsewhere"
            await self._settle(row, TransactionState.FAILED, failure=reason)

    async def _broadcast(self, row: RowT) -> Broadcast:
        try:
            outcome = await self._sender.broadcast(_signed(row))
        except Unavailable as error:
            TX_PUBLISH_ERRORS.labels(type(error).__name__).inc()
            raise
        if outcome is Broadcast.NONCE_USED:
            TX_PUBLISH_ERRORS.labels("NonceUsed").inc()
        self._sent_at[row.id] = time.monotonic()
        return outcome

    async def _note_mined(self, row: RowT, receipt: Receipt | None) -> None:
        """Remember the block, so that the lane may go on; forget it when a reorganisation took it back."""
        number = None if receipt is None else receipt.block.number
        if row.block_number == number:
            return
        if row.block_number is not None and number is None:
            head = await self._chain.head_block()
            REORG_DEPTH.observe(max(1, head.number - row.block_number + 1))
            REORGS.inc()
        async with self._database.begin() as session:
            fresh = await self._locked(session, row, TransactionState.SENT)
            if fresh is not None:
                fresh.block_number = number
        row.block_number = number
        if number is None:
            self._forget(row)
            log.warning("transaction_orphaned", purpose=row.purpose, subject=row.subject, tx_hash=row.transaction_hash)

    async def _conclude(self, row: RowT, receipt: Receipt) -> None:
        if receipt.succeeded:
            await self._settle(row, TransactionState.FINAL, receipt=receipt)
            return
        reason = await self._sender.revert_reason(row.sender, row.call, receipt)
        await self._settle(row, TransactionState.FAILED, failure=reason.sentence, receipt=receipt)

    async def _settle(self, row: RowT, state: TransactionState, *, failure: str | None = None, receipt: Receipt | None = None) -> None:
        """Write the end and run the handler, in one transaction."""
        async with self._database.begin() as session:
            fresh = await self._locked(session, row, row.state)
            if fresh is None:
                return
            fresh.move_to(state, failure)
            if receipt is not None:
                fresh.block_number, fresh.gas_used = receipt.block.number, receipt.gas_used
            handler = self._handlers.get(row.purpose)
            if handler is not None:
                await handler(session, fresh, receipt)
        row.block_number = fresh.block_number
        self._forget(row)
        if state is TransactionState.FINAL:
            TX_FINAL_SECONDS.labels(purpose=row.purpose).observe(_age(row))
        else:
            TX_FAILED.labels(purpose=row.purpose).inc()
        tracing.record(f"transaction {row.purpose}", subject=subject_of(row.call), seconds=_age(row), state=str(state))
        log.info(f"transaction_{state}", purpose=row.purpose, subject=row.subject, tx_hash=row.transaction_hash, reason=failure)

    def _is_due(self, done_at: dict[int, float], row: RowT) -> bool:
        """Whether it is time to do again for this row what was done then, or never yet."""
        return time.monotonic() - done_at.get(row.id, -math.inf) >= self._resend_seconds

    def _forget(self, row: RowT) -> None:
        self._sent_at.pop(row.id, None)
        self._looked_at.pop(row.id, None)

    async def _locked(self, session: Session, row: RowT, expected: TransactionState) -> RowT | None:
        """The row under its lock, None when another relay moved it on."""
        query = select(self._row).where(self._row.id == row.id, self._row.state == expected).with_for_update()
        return (await session.execute(query)).scalar_one_or_none()

    async def _is_busy(self, session: Session, sender: Address) -> bool:
        """Whether a transaction of this sender left and is in no block yet."""
        query = select(self._row.id).where(self._row.sender == sender, self._row.state.in_(IN_FLIGHT), self._row.block_number.is_(None))
        return (await session.execute(query.limit(1))).first() is not None


def _age(row: OutboxRow) -> float:
    """Seconds since the wish. The row's time is the database's: clocks that differ make it no less than nothing."""
    return max(0.0, (datetime.now(UTC) - row.created_at).total_seconds())


def _signed(row: OutboxRow) -> Signed:
    """The saved bytes of a row that has some."""
    if row.nonce is None or row.raw is None or row.transaction_hash is None:
        raise Violated(f"outbox row {row.id} is {row.state} without its bytes")
    return Signed(row.nonce, row.raw, TransactionHash(row.transaction_hash))
