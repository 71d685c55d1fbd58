"""What this lender anchored, from its own tables: manifests, every version of the encrypted weights, reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CompoundSelect, select, union

from hessian.identifiers import Digest
from hessian.ipfs.audit import Copies
from hessian.postgres.engine import Database
from lender_api.tables import Model, Round, Weights


class Anchored(Copies):
    """The artifacts of models that are on chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def digests(self) -> Sequence[Digest]:
        """Every digest once."""
        on_chain = Model.model_id.is_not(None)
        every: CompoundSelect[Any] = union(
            select(Model.manifest_digest).where(on_chain),
            select(Weights.digest).join(Model, Model.id == Weights.model).where(on_chain),
            select(Round.report_digest).where(Round.report_digest.is_not(None)),
        )
        async with self._database.begin() as session:
            return [Digest(digest) for digest in (await session.execute(every)).scalars() if digest is not None]

    async def content(self, digest: Digest) -> bytes | None:
        """The stored bytes."""
        stored = (
            select(Model.manifest).where(Model.manifest_digest == digest),
            select(Weights.content).where(Weights.digest == digest),
            select(Round.report).where(Round.report_digest == digest),
        )
        async with self._database.begin() as session:
            for query in stored:
                if (found := (await session.execute(query.limit(1))).scalar_one_or_none()) is not None:
                    return bytes(found)
        return None
