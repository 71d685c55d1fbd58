"""The coordinator's schema: the cursor and what it has passed, the contracts' state as the events tell it, and the jobs they asked for.

Everything but `jobs` can be rebuilt from the chain. Times in the projection are the chain's clock, in seconds. procrastinate's own tables
stand beside these (migrations/procrastinate-3.10.0.sql).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, Boolean, Dialect, ForeignKey, Index, Integer, Numeric, SmallInteger, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from coordinator.jobs import JobKind, JobState, Service
from hessian.chain.deployment_records import RequestState
from hessian.chain.records import ModelState, RoundState, SplitRule
from hessian.identifiers import Address, CohortId, DeploymentId, Digest, ErrorUnits, ModelId, RequestId, RoundId, Timestamp, Wei
from hessian.postgres.columns import AddressColumn, BigId, CreatedAt, DigestColumn, UpdatedAt, WeiColumn
from hessian.postgres.engine import naming_metadata

EnumT = TypeVar("EnumT", bound=IntEnum | StrEnum)


class NameColumn(TypeDecorator[EnumT], Generic[EnumT]):
    """An enum by its lower-case name: readable in SQL, and safe against a change of the contract's numbers."""

    impl = String(32)
    cache_ok = True

    def __init__(self, kind: type[EnumT]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: EnumT | None, dialect: Dialect) -> str | None:
        """The name."""
        return None if value is None else value.name.lower()

    def process_result_value(self, value: Any, dialect: Dialect) -> EnumT | None:
        """The member."""
        return None if value is None else getattr(self.kind, value.upper())


class ErrorColumn(TypeDecorator[ErrorUnits]):
    """uint64, as the contract takes any: a lender's absurd terms must not stop every coordinator."""

    impl = Numeric(20, 0)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> ErrorUnits | None:
        """Back to an int."""
        return None if value is None else ErrorUnits(int(value))


class Base(DeclarativeBase):
    """Everything in this service's schema."""

    metadata = naming_metadata()


class Cursor(Base):
    """The last block done: one row. Whoever advances it holds its lock."""

    __tablename__ = "chain_cursor"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, default=1)
    chain_id: Mapped[int] = mapped_column(BigInteger)
    repository_address: Mapped[Address] = mapped_column(AddressColumn)
    deployment_address: Mapped[Address | None] = mapped_column(AddressColumn)
    block_number: Mapped[int] = mapped_column(BigInteger)
    block_hash: Mapped[str] = mapped_column(String(66))
    timestamp: Mapped[Timestamp] = mapped_column(BigInteger)
    updated_at: Mapped[UpdatedAt]


class BlockRange(Base):
    """Consecutive blocks that were read. Each row's parent is the row before it: a gap shows in one self-join.

    A range without events extends the row before it, so that an idle chain leaves no rows.
    """

    __tablename__ = "chain_blocks"

    first_number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    first_parent_hash: Mapped[str] = mapped_column(String(66))
    last_number: Mapped[int] = mapped_column(BigInteger, unique=True)
    last_hash: Mapped[str] = mapped_column(String(66), unique=True)
    events: Mapped[int] = mapped_column(Integer)


class Event(Base):
    """What the contracts said, in order."""

    __tablename__ = "chain_events"
    __table_args__ = (UniqueConstraint("block_hash", "log_index"), Index(None, "model_id", "id"), Index(None, "deployment_id", "id"))

    id: Mapped[BigId]
    block_hash: Mapped[str] = mapped_column(String(66))
    log_index: Mapped[int] = mapped_column(Integer)
    block_number: Mapped[int] = mapped_column(BigInteger)
    transaction_hash: Mapped[str] = mapped_column(String(66))
    timestamp: Mapped[Timestamp] = mapped_column(BigInteger)
    contract: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(40))
    model_id: Mapped[ModelId | None] = mapped_column(BigInteger)
    cohort_id: Mapped[CohortId | None] = mapped_column(BigInteger)
    round_id: Mapped[RoundId | None] = mapped_column(BigInteger)
    deployment_id: Mapped[DeploymentId | None] = mapped_column(BigInteger)
    request_id: Mapped[RequestId | None] = mapped_column(BigInteger)
    account: Mapped[Address | None] = mapped_column(AddressColumn)
    plain: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Model(Base):
    """A model. Columns are named like the fields of projection.ModelView."""

    __tablename__ = "models"

    model_id: Mapped[ModelId] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    lender: Mapped[Address] = mapped_column(AddressColumn)
    state: Mapped[ModelState] = mapped_column(NameColumn(ModelState))
    bounty: Mapped[Wei] = mapped_column(WeiColumn)
    base_fee: Mapped[Wei] = mapped_column(WeiColumn)
    initial_error: Mapped[ErrorUnits] = mapped_column(ErrorColumn)
    target_error: Mapped[ErrorUnits] = mapped_column(ErrorColumn)
    best_error: Mapped[ErrorUnits] = mapped_column(ErrorColumn)
    max_rounds: Mapped[int] = mapped_column(BigInteger)
    cohort_size: Mapped[int] = mapped_column(Integer)
    split_rule: Mapped[SplitRule] = mapped_column(NameColumn(SplitRule))
    training_deadline: Mapped[Timestamp] = mapped_column(BigInteger)
    manifest_digest: Mapped[Digest] = mapped_column(DigestColumn)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    created_at: Mapped[Timestamp] = mapped_column(BigInteger)
    is_closed: Mapped[bool] = mapped_column(Boolean)
    rounds_opened: Mapped[int] = mapped_column(BigInteger)
    rounds_paid: Mapped[int] = mapped_column(BigInteger)
    paid: Mapped[Wei] = mapped_column(WeiColumn)
    refunded: Mapped[Wei] = mapped_column(WeiColumn)


class Cohort(Base):
    """A cohort, forming, sealed or closed."""

    __tablename__ = "cohorts"

    cohort_id: Mapped[CohortId] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    model_id: Mapped[ModelId] = mapped_column(ForeignKey("models.model_id"), index=True)
    is_sealed: Mapped[bool] = mapped_column(Boolean)
    is_closed: Mapped[bool] = mapped_column(Boolean)
    total_rows: Mapped[int] = mapped_column(BigInteger)


class Member(Base):
    """A place in a cohort."""

    __tablename__ = "members"

    cohort_id: Mapped[CohortId] = mapped_column(ForeignKey("cohorts.cohort_id"), primary_key=True)
    member_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    account: Mapped[Address] = mapped_column(AddressColumn)
    rows: Mapped[int] = mapped_column(BigInteger)


class Round(Base):
    """A round."""

    __tablename__ = "rounds"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index("ix_rounds_in_flight", "deadline", postgresql_where=text("ended_at IS NULL")),
    )

    round_id: Mapped[RoundId] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    model_id: Mapped[ModelId] = mapped_column(ForeignKey("models.model_id"))
    cohort_id: Mapped[CohortId] = mapped_column(ForeignKey("cohorts.cohort_id"))
    number: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[RoundState] = mapped_column(NameColumn(RoundState))
    deadline: Mapped[Timestamp] = mapped_column(BigInteger)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    error_before: Mapped[ErrorUnits] = mapped_column(ErrorColumn)
    opened_at: Mapped[Timestamp] = mapped_column(BigInteger)
    error_after: Mapped[ErrorUnits | None] = mapped_column(ErrorColumn)
    reward: Mapped[Wei | None] = mapped_column(WeiColumn)
    pool: Mapped[Wei | None] = mapped_column(WeiColumn)
    new_weights_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    report_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    ended_at: Mapped[Timestamp | None] = mapped_column(BigInteger)


class Submission(Base):
    """A member's part in a round."""

    __tablename__ = "submissions"

    round_id: Mapped[RoundId] = mapped_column(ForeignKey("rounds.round_id"), primary_key=True)
    member_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    member: Mapped[Address] = mapped_column(AddressColumn)
    gradient_digest: Mapped[Digest] = mapped_column(DigestColumn)
    submitted_at: Mapped[Timestamp] = mapped_column(BigInteger)
    unlocked_at: Mapped[Timestamp | None] = mapped_column(BigInteger)


class Deployment(Base):
    """A trained model that can be asked. Columns are named like the fields of serving.DeploymentView."""

    __tablename__ = "deployments"

    deployment_id: Mapped[DeploymentId] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    model_id: Mapped[ModelId] = mapped_column(ForeignKey("models.model_id"), index=True)
    lender: Mapped[Address] = mapped_column(AddressColumn)
    fee: Mapped[Wei] = mapped_column(WeiColumn)
    answer_window: Mapped[int] = mapped_column(BigInteger)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    scoring_digest: Mapped[Digest] = mapped_column(DigestColumn)
    deployed_at: Mapped[Timestamp] = mapped_column(BigInteger)
    is_retired: Mapped[bool] = mapped_column(Boolean)


class ScoreRequest(Base):
    """A borrower's request. Columns are named like the fields of serving.RequestView."""

    __tablename__ = "requests"
    __table_args__ = (Index("ix_requests_waiting", "deadline", postgresql_where=text("ended_at IS NULL")),)

    request_id: Mapped[RequestId] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    deployment_id: Mapped[DeploymentId] = mapped_column(ForeignKey("deployments.deployment_id"), index=True)
    requester: Mapped[Address] = mapped_column(AddressColumn)
    state: Mapped[RequestState] = mapped_column(NameColumn(RequestState))
    deadline: Mapped[Timestamp] = mapped_column(BigInteger)
    query_digest: Mapped[Digest] = mapped_column(DigestColumn)
    requested_at: Mapped[Timestamp] = mapped_column(BigInteger)
    answer_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    ended_at: Mapped[Timestamp | None] = mapped_column(BigInteger)


class Job(Base):
    """One thing to ask of a neighbour, for a person to read; procrastinate's row beside it holds the queue."""

    __tablename__ = "jobs"
    __table_args__ = tuple(Index(None, column, "id") for column in ("state", "round_id", "model_id", "request_id"))

    id: Mapped[BigId]
    business_key: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[JobKind] = mapped_column(NameColumn(JobKind))
    service: Mapped[Service] = mapped_column(NameColumn(Service))
    model_id: Mapped[ModelId] = mapped_column(BigInteger)
    cohort_id: Mapped[CohortId | None] = mapped_column(BigInteger)
    round_id: Mapped[RoundId | None] = mapped_column(BigInteger)
    request_id: Mapped[RequestId | None] = mapped_column(BigInteger)
    member: Mapped[Address | None] = mapped_column(AddressColumn)
    occasion: Mapped[str] = mapped_column(String(80))
    state: Mapped[JobState] = mapped_column(NameColumn(JobState), default=JobState.PLANNED)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    crashes: Mapped[int] = mapped_column(Integer, default=0)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class Change(Base):
    """The transaction that changed a round or a job last: where the stream of progress finds what is new. Written by triggers alone."""

    __tablename__ = "changes"
    __table_args__ = (Index(None, "changed", "kind", "object_id"),)

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    object_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    changed: Mapped[int] = mapped_column(BigInteger)
