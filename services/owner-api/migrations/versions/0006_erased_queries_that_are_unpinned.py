"""Whether an erased query is known to be unpinned; of those erased so far it is not known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("applications", sa.Column("unpinned_at", sa.DateTime(timezone=True), nullable=True))
