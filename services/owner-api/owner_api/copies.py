"""What this node's owners anchored, from its own table: their masked gradients."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from hessian.identifiers import Digest
from hessian.ipfs.audit import Copies
from hessian.postgres.engine import Database
from owner_api.states import ContributionState
from owner_api.tables import Contribution

_ANCHORED = (ContributionState.SUBMITTED, ContributionState.UNLOCKED, ContributionState.SETTLED)


class Anchored(Copies):
    """The artifacts of contributions that were submitted, and whose round did not fail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def digests(self) -> Sequence[Digest]:
        """Every digest once."""
        query = select(Contribution.gradient_digest).where(Contribution.state.in_(_ANCHORED), Contribution.gradient_digest.is_not(None))
        async with self._database.begin() as session:
            return [digest for digest in (await session.execute(query.distinct())).scalars() if digest is not None]

    async def content(self, digest: Digest) -> bytes | None:
        """The stored bytes."""
        async with self._database.begin() as session:
            query = select(Contribution.artifact).where(Contribution.gradient_digest == digest).limit(1)
            return (await session.execute(query)).scalar_one_or_none()
