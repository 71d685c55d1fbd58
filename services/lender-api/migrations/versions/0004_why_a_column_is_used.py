"""What was decided about each column of a model's table. Of models made before nothing is known: people wrote their outlines by hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Numbers of earlier specifications now say in so many words that they lack no values and have no unit.
_FORWARD = """
update models set specification = jsonb_set(specification, '{features}', (
    select jsonb_agg(
        case when feature ->> 'kind' = 'numeric'
            then jsonb_build_object('missing_values', '[]'::jsonb, 'indicator', '[]'::jsonb, 'unit', '') || feature
            else feature
        end order by place)
    from jsonb_array_elements(specification -> 'features') with ordinality as listed (feature, place)))
"""
_BACK = """
update models set specification = jsonb_set(specification, '{features}', (
    select jsonb_agg(feature - 'missing_values' - 'indicator' - 'unit' order by place)
    from jsonb_array_elements(specification -> 'features') with ordinality as listed (feature, place)))
"""


def upgrade() -> None:
    """Forward."""
    op.add_column("models", sa.Column("preparation", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False))
    op.alter_column("models", "preparation", server_default=None)
    op.execute(_FORWARD)


def downgrade() -> None:
    """Back."""
    op.execute(_BACK)
    op.drop_column("models", "preparation")
