"""What this node's owners and borrowers anchored, from its own tables: masked gradients and score queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select, union, update

from hessian.identifiers import Digest, digest_to_hex
from hessian.ipfs.audit import Copies
from hessian.ipfs.store import ContentStore
from hessian.postgres.engine import Database
from owner_api.states import ApplicationMode, ApplicationState, ContributionState
from owner_api.tables import Application, Contribution

log = structlog.get_logger()
STILL_PUBLISHED = timedelta(hours=1)
"""For so long after an erasure somebody who had the bytes before may be about to pin them: far more than a call of the IPFS node takes."""

_REQUESTED = (ApplicationState.WAITING, ApplicationState.QUOTED, ApplicationState.ACCEPTED, ApplicationState.UNREADABLE)
_ANCHORED = (ContributionState.SUBMITTED, ContributionState.UNLOCKED, ContributionState.SETTLED)


class Anchored(Copies):
    """The artifacts of contributions that were submitted, and whose round did not fail; the queries of requests that did not expire, until
    their borrower erases them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def digests(self) -> Sequence[Digest]:
        """Every digest once."""
        every = union(
            select(Contribution.gradient_digest).where(Contribution.state.in_(_ANCHORED), Contribution.gradient_digest.is_not(None)),
            select(Application.query_digest).where(Application.state.in_(_REQUESTED), Application.query.is_not(None)),
        )
        async with self._database.begin() as session:
            return [Digest(digest) for digest in (await session.execute(every)).scalars() if digest is not None]

    async def content(self, digest: Digest) -> bytes | None:
        """The stored bytes."""
        stored = (
            select(Contribution.artifact).where(Contribution.gradient_digest == digest),
            select(Application.query).where(Application.query_digest == digest),
        )
        async with self._database.begin() as session:
            for query in stored:
                if (found := (await session.execute(query.limit(1))).scalar_one_or_none()) is not None:
                    return found
        return None

    async def unpin_erased(self, store: ContentStore) -> int:
        """Erased queries, each until it was unpinned when nobody could be publishing it any more."""
        erased = select(Application.query_digest).where(
            Application.erased_at.is_not(None), Application.unpinned_at.is_(None), Application.mode == ApplicationMode.PRIVATE
        )
        async with self._database.begin() as session:
            digests = [Digest(digest) for digest in (await session.execute(erased)).scalars() if digest is not None]
        removed = 0
        for digest in digests:
            begun = datetime.now(UTC)
            if await store.is_pinned(digest):
                await store.unpin(digest)
                removed += 1
                log.warning("erased_query_unpinned", digest=digest_to_hex(digest))
            await self._note_unpinned(digest, begun)
        return removed

    async def _note_unpinned(self, digest: Digest, at: datetime) -> None:
        settled = update(Application).where(Application.query_digest == digest, Application.erased_at < at - STILL_PUBLISHED)
        async with self._database.begin() as session:  # the application itself has not changed
            await session.execute(settled.values(unpinned_at=at, updated_at=Application.updated_at))
