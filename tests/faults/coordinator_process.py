"""The real coordinator as a process that kills itself at one of the watcher's commits. Started by test_coordinator_kill.py.

Arguments: `before` or `after` the commit, and which commit of a range with events it is, counted from 1.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import URL

from coordinator import repository, world
from coordinator.__main__ import main
from hessian.chain.blocks import Block
from hessian.postgres.engine import Database, open_database
from hessian.postgres.session import Session
from hessian.service.process import run_service

WHEN, COMMIT = sys.argv[1], int(sys.argv[2])
advance_cursor = repository.advance_cursor


class DeadlyDatabase(Database):
    """Counts the commits of ranges with events, and dies at one of them."""

    seen = 0

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """As always, but for the end."""
        async with super().begin() as session:
            yield session
            is_fatal = self._is_fatal(session)
            if is_fatal and WHEN == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        if is_fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_fatal(self, session: Session) -> bool:
        if not session.info.get("events"):
            return False
        self.seen += 1
        return self.seen == COMMIT


async def noted(session: Session, first: Block, last: Block, events: int) -> None:
    """advance_cursor, remembered in the session."""
    session.info["events"] = events
    await advance_cursor(session, first, last, events)


@asynccontextmanager
async def deadly(url: URL | str) -> AsyncIterator[Database]:
    """open_database with the database above."""
    async with open_database(url) as database:
        yield DeadlyDatabase(database.engine)


if __name__ == "__main__":
    repository.advance_cursor = noted
    world.open_database = deadly  # type: ignore[assignment,attr-defined]  # the composition root's own name for it
    run_service("coordinator", main)
