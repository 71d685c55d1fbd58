"""What became of an answer: whether it may have been read, and what its borrower's opening came to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward. An answer that was stored before may have been published."""
    op.add_column("requests", sa.Column("is_published", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE requests SET is_published = answer_digest IS NOT NULL")
    op.add_column("requests", sa.Column("opening_holds", sa.Boolean(), nullable=True))
