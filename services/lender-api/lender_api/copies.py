"""What this lender anchored, from its own tables: manifests, every version of the encrypted weights, reports, scoring models, answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CompoundSelect, select, union

from hessian.identifiers import Digest
from hessian.ipfs.audit import Copies
from hessian.postgres.engine import Database
from lender_api.requests.history import ANSWERED
from lender_api.tables import Deployment, Model, Round, ScoreRequest, Weights


class Anchored(Copies):
    """The artifacts of models and deployments that are on chain, and the answers that were in time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def digests(self) -> Sequence[Digest]:
        """Every digest once."""
        on_chain = Model.model_id.is_not(None)
        every: CompoundSelect[Any] = union(
            select(Model.manifest_digest).where(on_chain),
            select(Weights.digest).join(Model, Model.id == Weights.model).where(on_chain),
            select(Round.report_digest).where(Round.report_digest.is_not(None)),
            select(Deployment.scoring_digest).where(Deployment.deployment_id.is_not(None)),
            select(ScoreRequest.answer_digest).where(ScoreRequest.state == ANSWERED),
        )
        async with self._database.begin() as session:
            return [Digest(digest) for digest in (await session.execute(every)).scalars() if digest is not None]

    async def content(self, digest: Digest) -> bytes | None:
        """The stored bytes."""
        stored = (
            select(Model.manifest).where(Model.manifest_digest == digest),
            select(Weights.content).where(Weights.digest == digest),
            select(Round.report).where(Round.report_digest == digest),
            select(Deployment.scoring_model).where(Deployment.scoring_digest == digest),
            select(ScoreRequest.answer).where(ScoreRequest.answer_digest == digest),
        )
        async with self._database.begin() as session:
            for query in stored:
                if (found := (await session.execute(query.limit(1))).scalar_one_or_none()) is not None:
                    return bytes(found)
        return None
