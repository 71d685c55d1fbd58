"""The rows of one lender's node. Secrets are sealed columns: what opens them is in keys.py.

Chain objects (models, cohorts, rounds, deployments, requests) keep the numbers that the contracts gave them; our own are named by UUID, and
`number` is the order that pages are cut by.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hessian.identifiers import Address, Digest, Wei
from hessian.outbox.tables import OutboxRow
from hessian.postgres import idempotency, vault
from hessian.postgres.columns import AddressColumn, BigId, CreatedAt, DigestColumn, UpdatedAt, WeiColumn
from hessian.postgres.engine import naming_metadata


class Base(DeclarativeBase):
    """Everything in this service's schema."""

    metadata = naming_metadata()


class VaultHeader(vault.VaultHeader, Base):
    """Pins the passphrase."""


class IdempotentAnswer(idempotency.IdempotentAnswer, Base):
    """Answers already given to an Idempotency-Key."""


class Outbox(OutboxRow, Base):
    """Transactions on their way to the chain."""


class Wallet(Base):
    """The node's one Ethereum account: a single row."""

    __tablename__ = "wallet"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, default=1)
    address: Mapped[Address] = mapped_column(AddressColumn)
    sealed_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]


class ValidationSet(Base):
    """Rows that never leave the node, sealed as the CSV that came in."""

    __tablename__ = "validation_sets"

    number: Mapped[BigId]
    id: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(200))
    label: Mapped[str] = mapped_column(String(200))
    positive: Mapped[str] = mapped_column(String(200))
    rows: Mapped[int] = mapped_column(Integer)
    positives: Mapped[int] = mapped_column(Integer)
    negatives: Mapped[list[str]] = mapped_column(JSONB)
    columns: Mapped[list[str]] = mapped_column(JSONB)
    digest: Mapped[Digest] = mapped_column(DigestColumn)
    sealed_csv: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[CreatedAt]


class Model(Base):
    """A model of this lender, from the wish to the closed escrow."""

    __tablename__ = "models"

    number: Mapped[BigId]
    id: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True, default=uuid.uuid4)
    validation_set_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("validation_sets.id"))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    key_bits: Mapped[int] = mapped_column(Integer)
    cohort_size: Mapped[int] = mapped_column(Integer)
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    specification: Mapped[dict[str, Any]] = mapped_column(JSONB)
    bounds: Mapped[dict[str, Any]] = mapped_column(JSONB)
    objective: Mapped[dict[str, Any]] = mapped_column(JSONB)
    privacy: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    preparation: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    features: Mapped[list[str]] = mapped_column(JSONB)
    step: Mapped[int] = mapped_column(BigInteger)
    escrow_wei: Mapped[Wei] = mapped_column(WeiColumn)
    initial_error: Mapped[int] = mapped_column(BigInteger)
    best_error: Mapped[int] = mapped_column(BigInteger)
    rounds_paid: Mapped[int] = mapped_column(Integer, default=0)
    manifest: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    manifest_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    weights_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    model_id: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    is_closed: Mapped[bool] = mapped_column(default=False)
    refund_wei: Mapped[Wei | None] = mapped_column(WeiColumn)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class ModelKey(Base):
    """The Paillier key pair of one model. Never replaced: a second key would orphan every ciphertext under the first."""

    __tablename__ = "model_keys"

    model: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    modulus_digest: Mapped[Digest] = mapped_column(DigestColumn)
    sealed_private_key: Mapped[bytes] = mapped_column(LargeBinary)
    certificate: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]


class Weights(Base):
    """One version of a model's weights: sealed in plain for the lender, encrypted as published."""

    __tablename__ = "weights"
    __table_args__ = (UniqueConstraint("model", "digest"), UniqueConstraint("model", "version"))

    number: Mapped[BigId]
    model: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int] = mapped_column(Integer)
    digest: Mapped[Digest] = mapped_column(DigestColumn)
    error: Mapped[int] = mapped_column(BigInteger)
    sealed_weights: Mapped[bytes] = mapped_column(LargeBinary)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[CreatedAt]


class Round(Base):
    """A round of one of our models, as far as it got."""

    __tablename__ = "rounds"

    number: Mapped[BigId]
    round_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    model: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), index=True)
    cohort_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    members: Mapped[int] = mapped_column(Integer)
    rows: Mapped[int] = mapped_column(BigInteger)
    submitted: Mapped[int] = mapped_column(Integer, default=0)
    unlocked: Mapped[int] = mapped_column(Integer, default=0)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    error_before: Mapped[int] = mapped_column(BigInteger)
    error_after: Mapped[int | None] = mapped_column(BigInteger)
    new_weights_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    report: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    sealed_gradient: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # what conjugate gradients go on from
    report_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    reward_wei: Mapped[Wei | None] = mapped_column(WeiColumn)
    pool_wei: Mapped[Wei | None] = mapped_column(WeiColumn)
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class Submission(Base):
    """A member's artifact as accepted: evaluation needs nobody's network after this."""

    __tablename__ = "submissions"

    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.round_id"), primary_key=True)
    member_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[Digest] = mapped_column(DigestColumn)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]


class Deployment(Base):
    """A trained model that borrowers can ask, from the wish to its retirement. `figures` is what the calibration was judged by."""

    __tablename__ = "deployments"

    number: Mapped[BigId]
    id: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True, default=uuid.uuid4)
    model: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), index=True)
    state: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    weights_digest: Mapped[Digest] = mapped_column(DigestColumn)
    scale: Mapped[dict[str, Any]] = mapped_column(JSONB)
    calibration: Mapped[dict[str, Any]] = mapped_column(JSONB)
    figures: Mapped[dict[str, Any]] = mapped_column(JSONB)
    policy: Mapped[dict[str, Any]] = mapped_column(JSONB)
    fee_wei: Mapped[Wei] = mapped_column(WeiColumn)
    answer_window: Mapped[int] = mapped_column(Integer)
    scoring_model: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    scoring_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    deployment_id: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class ScoreRequest(Base):
    """A borrower's request to one of our deployments: what was asked, answered and accepted.

    `requested_at`, `deadline` and `valid_until` are the chain's clock. `answer` is stored before it is published: a repeated call anchors
    the very same bytes. `is_published` is set before the first attempt to publish it. `opening_holds`: what decrypting the query once for
    the opening of its commitment came to. What a borrower shows of itself is sealed.
    """

    __tablename__ = "requests"
    __table_args__ = (Index(None, "requester", "requested_at"), Index(None, "deployment", "number"))

    number: Mapped[BigId]
    request_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    deployment: Mapped[uuid.UUID] = mapped_column(ForeignKey("deployments.id"))
    requester: Mapped[Address] = mapped_column(AddressColumn)
    state: Mapped[str] = mapped_column(String(20))
    mode: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    query_digest: Mapped[Digest] = mapped_column(DigestColumn)
    requested_at: Mapped[int] = mapped_column(BigInteger)
    deadline: Mapped[int] = mapped_column(BigInteger)
    query: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    sealed_features: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    score: Mapped[int | None] = mapped_column(BigInteger)
    is_approved: Mapped[bool | None] = mapped_column(Boolean)
    band: Mapped[int | None] = mapped_column(Integer)
    pd_bps: Mapped[int | None] = mapped_column(Integer)
    rate_bps: Mapped[int | None] = mapped_column(Integer)
    reasons: Mapped[list[str] | None] = mapped_column(JSONB)
    valid_until: Mapped[int | None] = mapped_column(BigInteger)
    answer: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    answer_digest: Mapped[Digest | None] = mapped_column(DigestColumn)
    is_published: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    opening_holds: Mapped[bool | None] = mapped_column(Boolean)
    accepted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class Withdrawal(Base):
    """Credits on their way from a contract to the wallet."""

    __tablename__ = "withdrawals"

    number: Mapped[BigId]
    id: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True, default=uuid.uuid4)
    outbox_id: Mapped[int] = mapped_column(ForeignKey("outbox.id"))
    amount: Mapped[Wei] = mapped_column(WeiColumn)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
