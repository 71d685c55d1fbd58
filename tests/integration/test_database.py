"""The pool of one service, when it runs out."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from hessian.errors import DatabaseUnavailable
from hessian.postgres.engine import POOL_SIZE, open_database


async def test_begin__every_connection_is_taken__is_unavailable_not_a_crash(database_url: str) -> None:
    async with open_database(database_url, pool_seconds=0.1) as database, AsyncExitStack() as taken:
        for _ in range(2 * POOL_SIZE):
            session = await taken.enter_async_context(database.begin())
            await session.connection()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
