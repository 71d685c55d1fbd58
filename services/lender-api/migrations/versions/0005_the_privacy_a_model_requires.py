"""The differential privacy that a model requires of its members; none of those made before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("models", sa.Column("privacy", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
