"""Alembic's entry: one connection, one transaction, the URL handed in by coordinator.migration."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from coordinator.tables import Base


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """procrastinate's tables are not in our metadata: a comparison leaves them alone."""
    return not (kind == "table" and str(name).startswith("procrastinate_"))


engine = create_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_name=is_ours)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
