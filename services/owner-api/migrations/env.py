"""Alembic's entry: one connection, one transaction, the URL handed in by owner_api.migration."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from owner_api.tables import Base

engine = create_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
