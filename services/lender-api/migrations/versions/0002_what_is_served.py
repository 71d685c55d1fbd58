"""What is served: deployments and the requests that came to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "deployments",
        sa.Column("number", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("weights_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scale", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("calibration", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("figures", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fee_wei", sa.Numeric(precision=78, scale=0), nullable=False),
        sa.Column("answer_window", sa.Integer(), nullable=False),
        sa.Column("scoring_model", sa.LargeBinary(), nullable=True),
        sa.Column("scoring_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("deployment_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name=op.f("fk_deployments_model")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_deployments")),
        sa.UniqueConstraint("deployment_id", name=op.f("uq_deployments_deployment_id")),
        sa.UniqueConstraint("id", name=op.f("uq_deployments_id")),
    )
    op.create_index(op.f("ix_deployments_model"), "deployments", ["model"], unique=False)
    op.create_index(op.f("ix_deployments_state"), "deployments", ["state"], unique=False)
    op.create_table(
        "requests",
        sa.Column("number", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("request_id", sa.BigInteger(), nullable=False),
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("requester", sa.String(length=42), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("query_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("query", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_features", sa.LargeBinary(), nullable=True),
        sa.Column("score", sa.BigInteger(), nullable=True),
        sa.Column("is_approved", sa.Boolean(), nullable=True),
        sa.Column("band", sa.Integer(), nullable=True),
        sa.Column("pd_bps", sa.Integer(), nullable=True),
        sa.Column("rate_bps", sa.Integer(), nullable=True),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("answer_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["deployment"], ["deployments.id"], name=op.f("fk_requests_deployment")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_requests")),
        sa.UniqueConstraint("request_id", name=op.f("uq_requests_request_id")),
    )
    op.create_index(op.f("ix_requests_deployment_number"), "requests", ["deployment", "number"], unique=False)
    op.create_index(op.f("ix_requests_requester_requested_at"), "requests", ["requester", "requested_at"], unique=False)
