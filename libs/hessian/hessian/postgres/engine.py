"""The engine of one service: its own role, its own schema, opened once at start and closed at the end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import URL, MetaData, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from hessian.errors import Conflict, DatabaseUnavailable
from hessian.postgres.session import Session
from hessian.settings import BadSettings, DatabaseSettings, read_secret

POOL_SIZE = 8
LOCK_TIMEOUT_MS = 10_000
_DRIVER = "postgresql+psycopg"
_IN_USE = "hashtextextended(current_schema() || ' in use', 0)"
_NOT_LET_IN = re.compile(r"(password|peer|ident|SCRAM) authentication failed|no pg_hba|(role|database) \S+ does not exist")


class SchemaInUse(Conflict):
    """A service runs on this database: stop it first."""


def naming_metadata() -> MetaData:
    """A fresh MetaData whose constraint names are predictable: each service's `Base` takes its own."""
    return MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """Sessions on one engine. `begin` is the only way to a session: it commits at its end or rolls back."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, class_=Session, expire_on_commit=False)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """One transaction. Raises DatabaseUnavailable when Postgres cannot be reached gives up on a lock, or all connections stay taken."""
        try:
            async with self._sessions.begin() as session:
                yield session
        except (OperationalError, InterfaceError, TimeoutError) as error:
            raise unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatabaseUnavailable from error
            raise

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self.begin() as session:
            await session.execute(text("select 1"))


def database_url(settings: DatabaseSettings) -> URL:
    """The URL with the password from its file. Raises BadSettings."""
    try:
        url = make_url(settings.database_url)
    except (ArgumentError, ValueError) as error:
        raise BadSettings(f"HESSIAN_DATABASE_URL is no URL: {_DRIVER}://role@host:port/database") from error
    if url.drivername != _DRIVER or url.password is not None:
        raise BadSettings(f"HESSIAN_DATABASE_URL is {_DRIVER}://role@host:port/database, and the password lies in a file")
    return url.set(password=read_secret(settings.database_password_file))


async def require_alone(session: Session) -> None:
    """Keep every service out of this schema until the transaction ends. Raises SchemaInUse when one is in it."""
    if not (await session.execute(text(f"select pg_try_advisory_xact_lock({_IN_USE})"))).scalar_one():
        raise SchemaInUse


def _announce(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"select pg_advisory_lock_shared({_IN_USE})")
    cursor.close()
    connection.commit()


def unavailable(error: Exception) -> DatabaseUnavailable:
    """What a failed connection is to us: nobody there, or somebody who does not let this role in."""
    if found := _NOT_LET_IN.search(str(error)):
        return DatabaseUnavailable(
            f"Postgres does not let this service in ({found.group()}): see HESSIAN_DATABASE_URL and its password file"
        )
    return DatabaseUnavailable()


@asynccontextmanager
async def open_database(url: URL | str, *, pool_seconds: float = 10.0, alone: bool = False) -> AsyncIterator[Database]:
    """Open the pool for the life of a service; whoever finds every connection taken waits `pool_seconds` for one.

    Each connection holds a shared lock on the schema's name while it is open: `require_alone` sees by it whether a service runs. Who calls
    that opens with `alone`, and holds none.
    """
    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_pre_ping=True,
        pool_timeout=pool_seconds,
        hide_parameters=True,  # an error that quotes a statement would quote sealed values, keystores and tokens' hashes with it
        connect_args={"options": f"-c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC", "connect_timeout": 10},
    )
    if not alone:
        event.listen(engine.sync_engine, "connect", _announce)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()
