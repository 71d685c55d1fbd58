"""Tokens are unique by a partial index: a plain one could be a foreign key's target, and replacing a token waited for every upload."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.drop_constraint("uq_owners_token_hash", "owners", type_="unique")
    op.create_index("uq_owners_token_hash", "owners", ["token_hash"], unique=True, postgresql_where=sa.text("token_hash is not null"))
