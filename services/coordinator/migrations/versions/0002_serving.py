"""The serving contract: deployments, requests, and the jobs they ask for. A cursor that is there goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    # a cursor without an address has not read the serving contract yet: the watcher takes that in before it goes on
    op.add_column("chain_cursor", sa.Column("deployment_address", sa.String(length=42), nullable=True))
    op.add_column("chain_events", sa.Column("contract", sa.String(length=40), server_default="ModelRepository", nullable=False))
    op.alter_column("chain_events", "contract", server_default=None)
    op.add_column("chain_events", sa.Column("deployment_id", sa.BigInteger(), nullable=True))
    op.add_column("chain_events", sa.Column("request_id", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_chain_events_deployment_id_id"), "chain_events", ["deployment_id", "id"], unique=False)
    op.add_column("jobs", sa.Column("request_id", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_jobs_request_id_id"), "jobs", ["request_id", "id"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("deployment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("lender", sa.String(length=42), nullable=False),
        sa.Column("fee", sa.Numeric(78, 0), nullable=False),
        sa.Column("answer_window", sa.BigInteger(), nullable=False),
        sa.Column("weights_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scoring_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("deployed_at", sa.BigInteger(), nullable=False),
        sa.Column("is_retired", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_deployments_model_id")),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_deployments")),
    )
    op.create_index(op.f("ix_deployments_model_id"), "deployments", ["model_id"], unique=False)
    op.create_table(
        "requests",
        sa.Column("request_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("requester", sa.String(length=42), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("query_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("answer_digest", sa.LargeBinary(32), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.deployment_id"], name=op.f("fk_requests_deployment_id")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
    )
    op.create_index(op.f("ix_requests_deployment_id"), "requests", ["deployment_id"], unique=False)
    op.create_index("ix_requests_waiting", "requests", ["deadline"], unique=False, postgresql_where=sa.text("ended_at IS NULL"))
