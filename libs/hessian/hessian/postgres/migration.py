"""Brings a service's schema to head, and tells when it is not there. Configured in code: no path depends on the working directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection
from sqlalchemy.exc import OperationalError

from hessian.postgres.engine import Database, unavailable
from hessian.settings import BadSettings


class SchemaBehind(BadSettings):
    """The database is not migrated to this software's version."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one service; `package` is what `python -m` runs."""

    package: str
    scripts: Path

    def run(self, url: URL | str) -> None:
        """Run every migration that is missing. Raises DatabaseUnavailable."""
        config = self._config()
        config.attributes["url"] = url
        try:
            command.upgrade(config, "head")
        except OperationalError as error:
            raise unavailable(error) from error

    async def require_head(self, database: Database) -> None:
        """Raises SchemaBehind, DatabaseUnavailable."""
        head = ScriptDirectory.from_config(self._config()).get_current_head()
        async with database.begin() as session:
            found = await (await session.connection()).run_sync(_current)
        if found != head:
            raise SchemaBehind(f"the schema stands at {found or 'nothing'}, not {head}: run `python -m {self.package} migrate`")

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self.scripts))
        return config


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
