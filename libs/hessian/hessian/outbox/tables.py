"""The outbox's row and its states. Each service maps the mixin in its own schema and creates it in its own migrations:

class Transaction(OutboxRow, Base):
    pass
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator

from hessian.chain.binding import Call
from hessian.errors import Violated
from hessian.identifiers import Address, Wei
from hessian.postgres.columns import AddressColumn, BigId, CreatedAt, UpdatedAt, WeiColumn


class TransactionState(StrEnum):
    """Where a transaction stands."""

    PENDING = "pending"  # written with the caller's own transaction; nothing is signed
    SIGNED = "signed"  # its bytes are saved; they may or may not have left
    SENT = "sent"  # a node has the bytes; mined when block_number is set
    FINAL = "final"  # succeeded in a final block
    FAILED = "failed"  # would revert, or did; never tried again

    @property
    def successors(self) -> frozenset[TransactionState]:
        """The states that may follow."""
        return _SUCCESSORS[self]

    @property
    def is_settled(self) -> bool:
        """Nothing follows."""
        return not self.successors


TRANSACTION_STATES = (
    "pending: stored, nothing is signed · signed: its bytes are stored, and may have left · sent: a node of the chain has it · "
    "final: it succeeded in a final block · failed: it would revert, or did, and is never tried again"
)
"""The same for readers of an API."""

_SUCCESSORS = {
    TransactionState.PENDING: frozenset({TransactionState.SIGNED, TransactionState.FAILED}),
    TransactionState.SIGNED: frozenset({TransactionState.SENT, TransactionState.FAILED}),
    TransactionState.SENT: frozenset({TransactionState.FINAL, TransactionState.FAILED}),
    TransactionState.FINAL: frozenset[TransactionState](),
    TransactionState.FAILED: frozenset[TransactionState](),
}


class ForbiddenTransition(Violated):
    """An outbox row cannot go from this state to that."""


class _StateColumn(TypeDecorator[TransactionState]):
    """The state's word."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: TransactionState | None, dialect: Any) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: Any, dialect: Any) -> TransactionState | None:
        return None if value is None else TransactionState(value)


class OutboxRow:
    """Mixin: one transaction to be sent, or sent.

    `business_key` names the intent ("submit:round 7:0xAbC…"): the same key is the same row, for ever. `subject` is what the handler needs
    to find its own rows again, for instance an id. Times are the database's.
    """

    __tablename__ = "outbox"

    id: Mapped[BigId]
    business_key: Mapped[str] = mapped_column(String(200), unique=True)
    sender: Mapped[Address] = mapped_column(AddressColumn)
    to: Mapped[Address] = mapped_column(AddressColumn)
    value: Mapped[Wei] = mapped_column(WeiColumn)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    purpose: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(200))
    state: Mapped[TransactionState] = mapped_column(_StateColumn, default=TransactionState.PENDING)
    nonce: Mapped[int | None] = mapped_column(BigInteger)
    raw: Mapped[bytes | None] = mapped_column(LargeBinary)
    transaction_hash: Mapped[str | None] = mapped_column(String(66), unique=True)
    block_number: Mapped[int | None] = mapped_column(BigInteger)
    gas_used: Mapped[int | None] = mapped_column(BigInteger)
    failure: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Any, ...]:
        return (
            UniqueConstraint("sender", "nonce"),
            Index(None, "sender", "id", postgresql_where=text("state in ('pending', 'signed', 'sent')")),
        )

    @property
    def call(self) -> Call:
        """What the transaction does."""
        return Call(self.to, self.data, self.value)

    def move_to(self, state: TransactionState, failure: str | None = None) -> None:
        """The only way to change the state. Raises ForbiddenTransition."""
        if state not in self.state.successors:
            raise ForbiddenTransition(f"outbox row {self.id} cannot go from {self.state} to {state}")
        self.state = state
        self.failure = failure
