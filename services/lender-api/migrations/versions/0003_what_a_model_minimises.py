"""What a model minimises, and what its cohort answered. Models made before minimise the squared loss by plain steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BEFORE = '{"loss": "squared", "ridge": 0, "local_steps": 1, "method": "fixed"}'


def upgrade() -> None:
    """Forward."""
    op.add_column("models", sa.Column("objective", postgresql.JSONB(astext_type=sa.Text()), server_default=_BEFORE, nullable=False))
    op.alter_column("models", "objective", server_default=None)
    op.add_column("rounds", sa.Column("sealed_gradient", sa.LargeBinary(), nullable=True))
