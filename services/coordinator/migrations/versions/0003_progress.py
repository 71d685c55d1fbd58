"""What changed last, for the stream of progress: triggers, so that no statement can forget it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FUNCTION = """
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (kind, object_id, changed)
    VALUES (TG_ARGV[0], (to_jsonb(NEW) ->> TG_ARGV[1])::bigint, pg_current_xact_id()::text::bigint)
    ON CONFLICT (kind, object_id) DO UPDATE SET changed = EXCLUDED.changed;
    RETURN NULL;
END $$
"""
_TRIGGERS = """
CREATE TRIGGER note_insert AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION note_change('{kind}', '{column}');
CREATE TRIGGER note_update AFTER UPDATE ON {table} FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION note_change('{kind}', '{column}');
"""
_PRESENT = """
INSERT INTO changes (kind, object_id, changed)
SELECT 'round', round_id, pg_current_xact_id()::text::bigint FROM rounds UNION ALL
SELECT 'job', id, pg_current_xact_id()::text::bigint FROM jobs
"""


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "changes",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "object_id", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_changed_kind_object_id"), "changes", ["changed", "kind", "object_id"], unique=False)
    op.execute(_FUNCTION)
    for table, kind, column in (("rounds", "round", "round_id"), ("submissions", "round", "round_id"), ("jobs", "job", "id")):
        op.execute(_TRIGGERS.format(table=table, kind=kind, column=column))
    op.execute(_PRESENT)
