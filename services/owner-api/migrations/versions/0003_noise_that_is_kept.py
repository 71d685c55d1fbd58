"""Noised statistics, and what each enrolment and each release gives away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "noised_statistics",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("mechanism", sa.LargeBinary(length=32), nullable=False),
        sa.Column("rho", sa.BigInteger(), nullable=False),
        sa.Column("sealed_statistics", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_noised_statistics_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_noised_statistics")),
        sa.UniqueConstraint("dataset_id", "mechanism", name=op.f("uq_noised_statistics_dataset_id_mechanism")),
    )
    for table in ("releases", "enrollments"):
        op.add_column(table, sa.Column("noised_id", sa.Uuid(), nullable=True))
        op.create_foreign_key(op.f(f"fk_{table}_noised_id"), table, "noised_statistics", ["noised_id"], ["id"])
    for name in ("delta", "epsilon_local", "epsilon_cohort"):
        op.add_column("enrollments", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("enrollments", sa.Column("honest_members", sa.Integer(), nullable=True))
    op.execute("delete from catalogue_models")  # what was read of manifests has another form now; the chain tells it anew
