"""The vault's key wrapped by the passphrase, so that the passphrase can change; absent where the stretched passphrase still is the key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("vault_header", sa.Column("wrapped_key", sa.LargeBinary(), nullable=True))
