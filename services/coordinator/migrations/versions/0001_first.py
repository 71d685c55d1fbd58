"""The coordinator's own tables and procrastinate's."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

PROCRASTINATE = Path(__file__).resolve().parents[1] / "procrastinate-3.10.0.sql"

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "chain_blocks",
        sa.Column("first_number", sa.BigInteger(), nullable=False),
        sa.Column("first_parent_hash", sa.String(length=66), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("last_hash", sa.String(length=66), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("first_number", name=op.f("pk_chain_blocks")),
        sa.UniqueConstraint("last_hash", name=op.f("uq_chain_blocks_last_hash")),
        sa.UniqueConstraint("last_number", name=op.f("uq_chain_blocks_last_number")),
    )
    op.create_table(
        "chain_cursor",
        sa.Column("id", sa.SmallInteger(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_address", sa.String(length=42), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.String(length=66), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_cursor")),
    )
    op.create_table(
        "chain_events",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("block_hash", sa.String(length=66), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("transaction_hash", sa.String(length=66), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=True),
        sa.Column("cohort_id", sa.BigInteger(), nullable=True),
        sa.Column("round_id", sa.BigInteger(), nullable=True),
        sa.Column("account", sa.String(length=42), nullable=True),
        sa.Column("plain", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_events")),
        sa.UniqueConstraint("block_hash", "log_index", name=op.f("uq_chain_events_block_hash_log_index")),
    )
    op.create_index(op.f("ix_chain_events_model_id_id"), "chain_events", ["model_id", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("business_key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("service", sa.String(length=32), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("cohort_id", sa.BigInteger(), nullable=True),
        sa.Column("round_id", sa.BigInteger(), nullable=True),
        sa.Column("member", sa.String(length=42), nullable=True),
        sa.Column("occasion", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("business_key", name=op.f("uq_jobs_business_key")),
    )
    op.create_index(op.f("ix_jobs_model_id_id"), "jobs", ["model_id", "id"], unique=False)
    op.create_index(op.f("ix_jobs_round_id_id"), "jobs", ["round_id", "id"], unique=False)
    op.create_index(op.f("ix_jobs_state_id"), "jobs", ["state", "id"], unique=False)
    op.create_table(
        "models",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lender", sa.String(length=42), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("bounty", sa.Numeric(78, 0), nullable=False),
        sa.Column("base_fee", sa.Numeric(78, 0), nullable=False),
        sa.Column("initial_error", sa.Numeric(20, 0), nullable=False),
        sa.Column("target_error", sa.Numeric(20, 0), nullable=False),
        sa.Column("best_error", sa.Numeric(20, 0), nullable=False),
        sa.Column("max_rounds", sa.BigInteger(), nullable=False),
        sa.Column("cohort_size", sa.Integer(), nullable=False),
        sa.Column("split_rule", sa.String(length=32), nullable=False),
        sa.Column("training_deadline", sa.BigInteger(), nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("weights_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
        sa.Column("rounds_opened", sa.BigInteger(), nullable=False),
        sa.Column("rounds_paid", sa.BigInteger(), nullable=False),
        sa.Column("paid", sa.Numeric(78, 0), nullable=False),
        sa.Column("refunded", sa.Numeric(78, 0), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_models")),
    )
    op.create_table(
        "cohorts",
        sa.Column("cohort_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("is_sealed", sa.Boolean(), nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
        sa.Column("total_rows", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_cohorts_model_id")),
        sa.PrimaryKeyConstraint("cohort_id", name=op.f("pk_cohorts")),
    )
    op.create_index(op.f("ix_cohorts_model_id"), "cohorts", ["model_id"], unique=False)
    op.create_table(
        "members",
        sa.Column("cohort_id", sa.BigInteger(), nullable=False),
        sa.Column("member_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.String(length=42), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["cohort_id"], ["cohorts.cohort_id"], name=op.f("fk_members_cohort_id")),
        sa.PrimaryKeyConstraint("cohort_id", "member_index", name=op.f("pk_members")),
    )
    op.create_table(
        "rounds",
        sa.Column("round_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("cohort_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("weights_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("error_before", sa.Numeric(20, 0), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("error_after", sa.Numeric(20, 0), nullable=True),
        sa.Column("reward", sa.Numeric(78, 0), nullable=True),
        sa.Column("pool", sa.Numeric(78, 0), nullable=True),
        sa.Column("new_weights_digest", sa.LargeBinary(32), nullable=True),
        sa.Column("report_digest", sa.LargeBinary(32), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["cohort_id"], ["cohorts.cohort_id"], name=op.f("fk_rounds_cohort_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_rounds_model_id")),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_rounds_model_id_number")),
    )
    op.create_index("ix_rounds_in_flight", "rounds", ["deadline"], unique=False, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "submissions",
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("member_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("member", sa.String(length=42), nullable=False),
        sa.Column("gradient_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("unlocked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_submissions_round_id")),
        sa.PrimaryKeyConstraint("round_id", "member_index", name=op.f("pk_submissions")),
    )
    driver = op.get_bind().connection.driver_connection
    assert driver is not None  # noqa: S101  # inside a migration there is one
    driver.execute(PROCRASTINATE.read_text(encoding="utf-8"))  # past the parameter styles: the file is full of % and :
