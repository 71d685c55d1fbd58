"""The rows of owner-api. Secrets are sealed columns (`hessian.postgres.vault`), named `sealed_…`; states carry their transitions.

`number` orders the rows of a list: pages are cut by it. Ids shown outside are UUIDs.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hessian.identifiers import Address, Digest, Wei
from hessian.outbox.tables import OutboxRow
from hessian.postgres.columns import AddressColumn, CreatedAt, DigestColumn, UpdatedAt, WeiColumn
from hessian.postgres.engine import naming_metadata
from hessian.postgres.idempotency import IdempotentAnswer
from hessian.postgres.vault import VaultHeader
from owner_api.states import ApplicationMode, ApplicationState, ContributionState, EnrollmentState, ForbiddenTransition

Id = Annotated[uuid.UUID, mapped_column(primary_key=True, default=uuid.uuid4)]
Number = Annotated[int, mapped_column(BigInteger, Identity(), unique=True)]


class Base(DeclarativeBase):
    """Every table of this service's schema."""

    metadata = naming_metadata()
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy's own form; else `updated_at` would be read by a later, hidden query


class Header(VaultHeader, Base):
    """The vault's header."""


class Answer(IdempotentAnswer, Base):
    """Answers given under an Idempotency-Key."""


class OutgoingTransaction(OutboxRow, Base):
    """The outbox."""


class Owner(Base):
    """A data owner: one wallet, one token."""

    __tablename__ = "owners"
    __table_args__ = (
        # partial, though no row is left out: a plain one could be a foreign key's target, and a new token would wait for whoever holds the
        # row by its id, as an upload does
        Index("uq_owners_token_hash", "token_hash", unique=True, postgresql_where=text("token_hash is not null")),
    )

    id: Mapped[Id]
    number: Mapped[Number]
    name: Mapped[str] = mapped_column(String(200), unique=True)
    address: Mapped[Address] = mapped_column(AddressColumn, unique=True)
    keystore: Mapped[dict[str, Any]] = mapped_column(JSONB)  # Web3 Secret Storage v3: the private key under the node's passphrase
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[CreatedAt]


class Dataset(Base):
    """An uploaded CSV; its rows lie in an encrypted file of the same id. After a deletion the row stays for the history, emptied."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index(
            "uq_datasets_content", "owner_id", "digest", "label", "positive_value", unique=True, postgresql_where=text("deleted_at is null")
        ),
    )

    id: Mapped[Id]
    number: Mapped[Number]
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    label: Mapped[str] = mapped_column(Text)
    positive_value: Mapped[str] = mapped_column(Text)
    column_names: Mapped[list[str]] = mapped_column(JSONB)
    rows: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of the file
    digest: Mapped[Digest] = mapped_column(DigestColumn)
    lineage: Mapped[uuid.UUID] = mapped_column(index=True)
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class RowFingerprint(Base):
    """A keyed hash of one row of a dataset. Datasets that share one are versions of one lineage (PROTOCOL §4)."""

    __tablename__ = "row_fingerprints"

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True, index=True)


class Release(Base):
    """This node signed an unlock for rows of this lineage: from then on the cohort's sum counts as known (PROTOCOL §4)."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("lineage", "chain_id", "contract", "cohort_id"),)

    id: Mapped[Id]
    lineage: Mapped[uuid.UUID]
    chain_id: Mapped[int] = mapped_column(BigInteger)
    contract: Mapped[Address] = mapped_column(AddressColumn)
    model_id: Mapped[int] = mapped_column(BigInteger)
    cohort_id: Mapped[int] = mapped_column(BigInteger)
    round_id: Mapped[int] = mapped_column(BigInteger)
    noised_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noised_statistics.id"))  # absent: the sum holds exact statistics
    created_at: Mapped[CreatedAt]


class NoisedStatistics(Base):
    """The one draw of noise on a dataset's statistics by one mechanism (PROTOCOL §5). Stored before anything leaves, and never replaced."""

    __tablename__ = "noised_statistics"
    __table_args__ = (UniqueConstraint("dataset_id", "mechanism"),)

    id: Mapped[Id]
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"))
    mechanism: Mapped[Digest] = mapped_column(DigestColumn)  # specification, clip norm and strength
    rho: Mapped[int] = mapped_column(BigInteger)  # at 10^-15
    sealed_statistics: Mapped[bytes | None] = mapped_column(LargeBinary)  # erased with the dataset; what was given away stays counted
    created_at: Mapped[CreatedAt]


class CatalogueModel(Base):
    """A model as it stood at `seen_block`, with its manifest once it was fetched and verified."""

    __tablename__ = "catalogue_models"

    model_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    lender: Mapped[Address] = mapped_column(AddressColumn)
    state: Mapped[str] = mapped_column(String(20))
    is_closed: Mapped[bool] = mapped_column(Boolean)
    best_error: Mapped[Decimal] = mapped_column(Numeric(20, 0))  # the contract holds 64 unsigned bits
    rounds_paid: Mapped[int] = mapped_column(BigInteger)
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    forming_cohort_id: Mapped[int] = mapped_column(BigInteger)
    forming_members: Mapped[int] = mapped_column(Integer)
    manifest_digest: Mapped[Digest] = mapped_column(DigestColumn)
    manifest: Mapped[bytes | None] = mapped_column(LargeBinary)
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # what a reader wants of the manifest
    problem: Mapped[str | None] = mapped_column(Text)  # why the manifest was refused
    seen_block: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[UpdatedAt]


_ACTIVE = "state in ('measuring', 'joining', 'waiting', 'sealed')"


class Enrollment(Base):
    """An owner offers a dataset to a model; becomes a member of one cohort."""

    __tablename__ = "enrollments"
    __table_args__ = (
        Index("uq_enrollments_active", "owner_id", "model_id", unique=True, postgresql_where=text(_ACTIVE)),
        Index("ix_enrollments_cohort", "cohort_id"),
    )

    id: Mapped[Id]
    number: Mapped[Number]
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"), index=True)
    model_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[EnrollmentState] = mapped_column(String(12), default=EnrollmentState.MEASURING)
    reason: Mapped[str | None] = mapped_column(Text)
    accept_alone: Mapped[bool] = mapped_column(Boolean)
    rows: Mapped[int] = mapped_column(BigInteger)
    manifest_digest: Mapped[Digest] = mapped_column(DigestColumn)
    cohort_size: Mapped[int] = mapped_column(Integer)
    cohort_id: Mapped[int | None] = mapped_column(BigInteger)
    members: Mapped[int] = mapped_column(Integer, default=0)
    member_index: Mapped[int | None] = mapped_column(Integer)
    joins: Mapped[int] = mapped_column(Integer, default=0)  # joins tried; each has its own masking key
    leaves: Mapped[int] = mapped_column(Integer, default=0)  # leaves tried
    masking_key: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    sealed_masking_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_statistics: Mapped[bytes | None] = mapped_column(LargeBinary)
    noised_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noised_statistics.id"))  # absent: the statistics are exact
    delta: Mapped[int | None] = mapped_column(BigInteger)  # this and the next two at 10^-15; absent without differential privacy
    epsilon_local: Mapped[int | None] = mapped_column(BigInteger)
    epsilon_cohort: Mapped[int | None] = mapped_column(BigInteger)  # of these rows' first cohort, until there is a second
    honest_members: Mapped[int | None] = mapped_column(Integer)  # what epsilon_cohort assumes
    tries: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[CreatedAt]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    def move_to(self, state: EnrollmentState, reason: str | None = None) -> None:
        """The only way to change the state. An end erases every secret. Raises ForbiddenTransition."""
        if state not in EnrollmentState(self.state).successors:
            raise ForbiddenTransition(f"enrolment {self.id} cannot go from {self.state} to {state}")
        self.state = state
        self.reason = reason
        self.tries = 0
        if not state.is_active:
            self.sealed_masking_secret = None
            self.sealed_statistics = None


class Contribution(Base):
    """One member's part in one round."""

    __tablename__ = "contributions"
    __table_args__ = (UniqueConstraint("round_id", "member"),)

    id: Mapped[Id]
    number: Mapped[Number]
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    enrollment_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("enrollments.id"), index=True)
    model_id: Mapped[int] = mapped_column(BigInteger)
    cohort_id: Mapped[int] = mapped_column(BigInteger)
    round_id: Mapped[int] = mapped_column(BigInteger)
    member: Mapped[Address] = mapped_column(AddressColumn)
    member_index: Mapped[int] = mapped_column(Integer)
    state: Mapped[ContributionState] = mapped_column(String(12), default=ContributionState.PREPARED)
    reason: Mapped[str | None] = mapped_column(Text)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    context: Mapped[bytes] = mapped_column(LargeBinary(32))
    unlock_commitment: Mapped[bytes] = mapped_column(LargeBinary(32))
    sealed_seed: Mapped[bytes | None] = mapped_column(LargeBinary)
    artifact: Mapped[bytes | None] = mapped_column(LargeBinary)
    gradient_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    first_block: Mapped[int] = mapped_column(
        BigInteger
    )  # a final block at or before everything that happened in this round for this member
    earned: Mapped[Wei] = mapped_column(WeiColumn, default=Wei(0))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    def move_to(self, state: ContributionState, reason: str | None = None) -> None:
        """The only way to change the state. An end erases u_i. Raises ForbiddenTransition."""
        if state not in ContributionState(self.state).successors:
            raise ForbiddenTransition(f"the contribution to round {self.round_id} cannot go from {self.state} to {state}")
        self.state = state
        self.reason = reason
        if not state.successors:
            self.sealed_seed = None


class Application(Base):
    """A borrower asks a deployment for a decision. `query`: the bytes that are sent for ever, whatever has to be repeated."""

    __tablename__ = "applications"
    __table_args__ = (UniqueConstraint("contract", "request_id"),)

    id: Mapped[Id]
    number: Mapped[Number]
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    contract: Mapped[Address] = mapped_column(AddressColumn)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    model_id: Mapped[int] = mapped_column(BigInteger)
    lender_key: Mapped[Digest] = mapped_column(DigestColumn)  # sha2-256 of the Paillier modulus: quotes are counted per key
    manifest_digest: Mapped[Digest] = mapped_column(DigestColumn)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    scoring_digest: Mapped[Digest] = mapped_column(DigestColumn)
    mode: Mapped[ApplicationMode] = mapped_column(String(8))
    state: Mapped[ApplicationState] = mapped_column(String(12), default=ApplicationState.PREPARING)
    reason: Mapped[str | None] = mapped_column(Text)
    fee: Mapped[Wei] = mapped_column(WeiColumn)
    cells: Mapped[bytes] = mapped_column(LargeBinary)  # keyed fingerprints of the values: what a later application is compared with
    sealed_features: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_blinding: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_answer_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_quote: Mapped[bytes | None] = mapped_column(LargeBinary)
    answer_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    query: Mapped[bytes | None] = mapped_column(LargeBinary)
    query_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    requests: Mapped[int] = mapped_column(Integer, default=0)  # requests tried; a further one pays the fee again, for the same bytes
    request_id: Mapped[int | None] = mapped_column(BigInteger)
    deadline: Mapped[int | None] = mapped_column(BigInteger)
    answer_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    answered_at: Mapped[int | None] = mapped_column(BigInteger)  # by the chain's clock: the final block that showed the answer
    tries: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[CreatedAt]
    erased_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    unpinned_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # the audit has seen to it, and nobody publishes it now
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    @property
    def published_query(self) -> Digest | None:
        """What of it is on IPFS, or will be: nothing of an open application."""
        return self.query_digest if self.mode == ApplicationMode.PRIVATE else None

    def move_to(self, state: ApplicationState, reason: str | None = None) -> None:
        """The only way to change the state. What never left this node leaves nothing behind. Raises ForbiddenTransition."""
        if state not in ApplicationState(self.state).successors:
            raise ForbiddenTransition(f"application {self.id} cannot go from {self.state} to {state}")
        self.state = state
        self.reason = reason
        self.tries = 0
        if state is ApplicationState.FAILED and self.query_digest is None:
            self.erase()
            self.cells = b""

    def erase(self) -> None:
        """Forget the features and every secret. The cells' fingerprints stay: the same features must not be sent twice."""
        self.sealed_features = self.sealed_salt = self.sealed_blinding = self.sealed_answer_key = None
        self.query = None
        self.erased_at = datetime.now(UTC)


class Ticket(Base):
    """A right to fetch, once or until the artifact is stored, what one job needs. Only its hash is kept."""

    __tablename__ = "tickets"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(12))
    enrollment_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("enrollments.id", ondelete="CASCADE"), index=True)
    contribution_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("contributions.id", ondelete="CASCADE"))
    application_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("applications.id", ondelete="CASCADE"))
    weights_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Withdrawal(Base):
    """An owner fetches its credits from a contract; which one, and how far it is, its outbox row tells."""

    __tablename__ = "withdrawals"

    id: Mapped[Id]
    number: Mapped[Number]
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("owners.id"), index=True)
    outbox_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("outbox.id"))
    amount: Mapped[Wei | None] = mapped_column(WeiColumn)  # known once final
    created_at: Mapped[CreatedAt]
