"""A new passphrase for a service's vault, while the service is stopped: `python -m <service> rotate-passphrase <file>`.

One transaction: either everything is under the new passphrase or nothing is. Killed anywhere it can be run again; when it had committed
already, it says so. Passphrases come from files alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import URL

from hessian.postgres.engine import Database, open_database, require_alone
from hessian.postgres.session import Session
from hessian.postgres.vault import VaultHeader, rewrap

Rewrap = Callable[[Session, str, str], Awaitable[None]]
"""Puts what else is under the old passphrase (first text) under the new one."""


async def rotate_passphrase(
    url: URL | str,
    header: type[VaultHeader],
    old: str,
    new: str,
    *,
    require_head: Callable[[Database], Awaitable[None]],
    also: Rewrap | None = None,
) -> str:
    """What was done, in a sentence. Raises SchemaInUse, SchemaBehind, PassphraseUnchanged, VaultEmpty, KeyLost, DatabaseUnavailable."""
    async with open_database(url, alone=True) as database:
        await require_head(database)
        async with database.begin() as session:
            await require_alone(session)
            done = await rewrap(session, header, old, new)
            if done and also is not None:
                await also(session, old, new)
    if not done:
        return "the keys are under the new passphrase already: put it in the place of the old one, then start the service"
    return "the keys are under the new passphrase: put it in the place of the old one, then start the service"
