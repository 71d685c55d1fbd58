"""What this node's owners and borrowers anchored, from its own tables: masked gradients and score queries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, union

from hessian.identifiers import Digest
from hessian.ipfs.audit import Copies
from hessian.postgres.engine import Database
from owner_api.states import ApplicationState, ContributionState
from owner_api.tables import Application, Contribution

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
