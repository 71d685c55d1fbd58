"""Ether out of a wallet of this node to an account elsewhere, through the outbox: exact wei, never more than is free.

The outbox row is the whole record: recipient, amount, state. What a wallet must keep is the service's to say; the caller holds a lock under
which the wallet's other promises are made, until its transaction ends.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from eth_utils.address import is_checksum_address, to_checksum_address
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from hessian.chain.binding import Call
from hessian.chain.blocks import Block
from hessian.chain.client import Chain
from hessian.errors import Conflict, Malformed, NotFound
from hessian.identifiers import Address, Wei
from hessian.outbox.outbox import Outbox, RowT
from hessian.outbox.tables import TRANSACTION_STATES, OutboxRow, TransactionState
from hessian.postgres.session import Session
from hessian.service.fields import AddressField, Page, PositiveWeiIn, WeiRead, next_cursor

TRANSFER = "transfer"
FEE_RESERVE = Wei(10**15)
"""What a transfer leaves for its own fee, at the least: 21 000 gas at 38 gwei and a quarter more. At a higher fee it waits."""

_LAST_RESERVED = 0xFFFF
"""Accounts up to here are nobody's: zero, and what the protocol keeps for its precompiled contracts."""


class RecipientRefused(Malformed):
    """Ether is sent to an ordinary account only."""


class NotFree(Conflict):
    """The wallet does not hold so much that is free."""


class TransferUnknown(NotFound):
    """There is no such transfer."""


@dataclass(frozen=True)
class Funds:
    """What a wallet held at a block, read before a transaction begins; `promised` is told the block."""

    balance: Wei
    block: Block


class TransferCreate(BaseModel):
    """Ether to be sent."""

    model_config = ConfigDict(extra="forbid")

    to: AddressField = Field(
        description="An ordinary account: no contract, not zero, not this wallet. All digits in one case, or the capitals of the checksum "
        "(EIP-55): others are refused"
    )
    amount_wei: PositiveWeiIn = Field(
        description=f"What arrives, to the wei; the fee comes on top, and {Decimal(FEE_RESERVE) / 10**18} ether stay for it in the wallet"
    )

    def canonical(self) -> str:
        """What an Idempotency-Key stands for."""
        return f"POST /v1/transfers {self.to.lower()} {self.amount_wei}"


class TransferRead(BaseModel):
    """Ether on its way, or arrived."""

    id: uuid.UUID
    to: AddressField
    amount_wei: WeiRead
    state: TransactionState = Field(description=TRANSACTION_STATES)
    transaction_hash: str | None = Field(default=None, examples=["0x" + "5c" * 32])
    reason: str | None = Field(default=None, description="Why it failed")
    created_at: datetime

    @classmethod
    def of(cls, row: OutboxRow) -> TransferRead:
        """From its transaction."""
        return cls(
            id=uuid.UUID(row.subject),
            to=row.to,
            amount_wei=row.value,
            state=row.state,
            transaction_hash=row.transaction_hash,
            reason=row.failure,
            created_at=row.created_at,
        )


async def funds(chain: Chain, wallet: Address) -> Funds:
    """For a preflight, so at the head: what came in a moment ago counts. The caller holds no session. Raises ChainUnavailable."""
    head = await chain.head_block()
    return Funds(await chain.balance(wallet, head), head)


async def look(chain: Chain, sender: Address, wanted: TransferCreate) -> Funds:
    """Judge the recipient; what the wallet holds. The caller holds no session. Raises RecipientRefused, ChainUnavailable."""
    to = _recipient(sender, wanted.to)
    seen = await funds(chain, sender)
    if await chain.has_code(to, seen.block):
        raise RecipientRefused(f"{to} is a contract: it may keep ether for ever; send to an ordinary account")
    return seen


async def send(
    session: Session, outbox: Outbox[RowT], sender: Address, wanted: TransferCreate, seen: Funds, *, kept: Wei, what_for: str
) -> TransferRead:
    """Enqueue what `look` has let through. `kept`: wei that must stay in the wallet, and `what_for`. Raises RecipientRefused, NotFree."""
    free = max(0, seen.balance - kept - FEE_RESERVE)
    if wanted.amount_wei > free:
        raise NotFree(
            f"the wallet {sender} holds {seen.balance} wei; {kept} wei stay for {what_for} and {FEE_RESERVE} wei for this transfer's fee: "
            f"{free} wei can be sent"
        )
    identity = str(uuid.uuid4())
    call = Call(_recipient(sender, wanted.to), b"", Wei(wanted.amount_wei))
    row = await outbox.enqueue(session, business_key=f"{TRANSFER}:{identity}", sender=sender, call=call, purpose=TRANSFER, subject=identity)
    return TransferRead.of(row)


async def promised(session: Session, table: type[OutboxRow], sender: Address, at: Block, *, besides: Collection[str] = ()) -> Wei:
    """Wei that the wallet's balance at a block still holds and its transactions take along, but for those of some purposes.

    What was mined after that block counts too, even if it is final by now: that balance knows nothing of it.
    """
    leaving = (table.state != TransactionState.FAILED) & (table.block_number.is_(None) | (table.block_number > at.number))
    query = select(func.sum(table.value)).where(table.sender == sender, leaving, table.purpose.not_in(besides))
    return Wei(int((await session.execute(query)).scalar_one() or 0))


async def find(session: Session, table: type[OutboxRow], sender: Address, identity: uuid.UUID) -> TransferRead:
    """A transfer out of this wallet. Raises TransferUnknown."""
    query = select(table).where(table.purpose == TRANSFER, table.sender == sender, table.subject == str(identity))
    row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        raise TransferUnknown
    return TransferRead.of(row)


async def page(session: Session, table: type[OutboxRow], sender: Address, *, after: int, limit: int) -> Page[TransferRead]:
    """The transfers out of this wallet, in order."""
    query = select(table).where(table.purpose == TRANSFER, table.sender == sender, table.id > after).order_by(table.id).limit(limit + 1)
    rows = list((await session.execute(query)).scalars())
    cursor = next_cursor(rows[limit - 1].id) if len(rows) > limit else None
    return Page(items=[TransferRead.of(row) for row in rows[:limit]], next=cursor)


def _recipient(sender: Address, text: str) -> Address:
    """Raises RecipientRefused."""
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(text):
        raise RecipientRefused(f"{text} is misspelt: its capitals are not those of its checksum (EIP-55)")
    to = Address(str(to_checksum_address(text)))
    if int(to, 16) <= _LAST_RESERVED:
        raise RecipientRefused(f"{to} is nobody's account: ether sent there is lost")
    if to == sender:
        raise RecipientRefused(f"{to} is this wallet itself")
    return to
