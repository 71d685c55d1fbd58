"""Applications of borrowers, and tickets for their queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "applications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("contract", sa.String(length=42), nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("lender_key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("weights_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scoring_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("fee", sa.Numeric(precision=78, scale=0), nullable=False),
        sa.Column("cells", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_features", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_salt", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_blinding", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_answer_key", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_quote", sa.LargeBinary(), nullable=True),
        sa.Column("answer_key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("query", sa.LargeBinary(), nullable=True),
        sa.Column("query_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.BigInteger(), nullable=True),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("answer_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_applications_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_applications")),
        sa.UniqueConstraint("contract", "request_id", name=op.f("uq_applications_contract_request_id")),
        sa.UniqueConstraint("number", name=op.f("uq_applications_number")),
    )
    op.create_index(op.f("ix_applications_owner_id"), "applications", ["owner_id"], unique=False)
    op.alter_column("tickets", "enrollment_id", existing_type=sa.Uuid(), nullable=True)
    op.add_column("tickets", sa.Column("application_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_tickets_application_id"), "tickets", "applications", ["application_id"], ["id"], ondelete="CASCADE")
