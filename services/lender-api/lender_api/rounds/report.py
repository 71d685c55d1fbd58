"""Evaluating a round and reporting it: computed once, stored, published, then sent. A repeated call sends the very same bytes.

Evaluation itself is random (fresh encryptions), so its result is a row before anything of it leaves the node.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import structlog
from sqlalchemy import select

from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.report import RoundReport, aggregate_digest
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.records import RoundState
from hessian.identifiers import Digest, ErrorUnits, RoundId, digest_of
from hessian.learning.columns import Columns
from hessian.learning.descent import Answered
from hessian.paillier.ciphertext import add
from hessian.paillier.decryption import PrivateKey
from hessian.postgres.session import Session
from lender_api.models.preparation import put_pinned
from lender_api.models.service import manifest_of
from lender_api.rounds import submissions
from lender_api.rounds.evaluation import Step, evaluate
from lender_api.rounds.history import answered_gradients, weights_of
from lender_api.rounds.schemas import Outcome, done, foreign, pending, superseded
from lender_api.rounds.service import REPORT, NotYetFinal, Seen, context_of, own_rows, see
from lender_api.sending import send
from lender_api.tables import Model, ModelKey, Round, ValidationSet, Weights
from lender_api.validation_sets.service import cells
from lender_api.world import World

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, repr=False)
class _Base:
    """What a round started from."""

    model: uuid.UUID
    manifest: ModelManifest
    private_key: PrivateKey
    columns: Columns
    kept: dict[int, bytes]
    version: int
    digest: Digest
    step: Step
    answered: list[Answered]


@dataclass(frozen=True, slots=True, repr=False)
class _Evaluated:
    """What came of it, and the bytes that tell it; `weights` is None when nothing moved."""

    step: Step
    weights: bytes | None
    report: bytes


async def evaluate_round(world: World, round_id: RoundId) -> Outcome:
    """Raises NotYetFinal, IpfsUnavailable, ChainUnavailable, KeyLost."""
    seen = await see(world, round_id)
    if seen.model.lender != world.keys.address:
        return foreign()
    if seen.round.state in (RoundState.SUBMITTING, RoundState.ACCEPTING, RoundState.UNLOCKING):
        raise NotYetFinal(f"round {round_id} is {seen.round.state.name.lower()} at final block {seen.block.number}")
    if seen.round.state is RoundState.SETTLED:
        return done(f"round {round_id} is settled")
    if seen.round.state is not RoundState.EVALUATING:
        return superseded(f"round {round_id} is {seen.round.state.name.lower()}")
    if seen.block.timestamp > seen.round.deadline:
        return superseded(f"the evaluate window of round {round_id} ended at {seen.round.deadline}")
    async with world.database.begin() as session:
        rows = await own_rows(session, seen)
        if rows is None:
            return foreign(f"model {seen.round.model_id} is not in this database")
        base = None if rows[1].report_digest else await _base(session, world, seen, rows[0])
    if base is not None:
        context = await context_of(world, seen)
        contents = await submissions.gather(world, base.manifest, context, seen.round, base.kept)
        await _store(world, seen, base, await asyncio.to_thread(_evaluate, base, seen, context, contents))
    return await _send(world, seen)


async def _base(session: Session, world: World, seen: Seen, model: Model) -> _Base:
    weights = await weights_of(session, model, seen.round.weights_digest)
    key = (await session.execute(select(ModelKey).where(ModelKey.model == model.id))).scalar_one()
    rows = (await session.execute(select(ValidationSet).where(ValidationSet.id == model.validation_set_id))).scalar_one()
    manifest = await manifest_of(session, world, model)
    return _Base(
        model=model.id,
        manifest=manifest,
        private_key=world.keys.open_private_key(key),
        columns=await cells(session, world, rows, manifest.specification.columns),
        kept=await submissions.kept(session, seen.round_id, seen.round),
        version=weights.version,
        digest=weights.digest,
        step=Step(tuple(world.keys.open_weights(weights)), ErrorUnits(weights.error)),
        answered=await answered_gradients(session, world, model, seen.round.cohort_id),
    )


def _evaluate(base: _Base, seen: Seen, context: bytes, contents: list[bytes]) -> _Evaluated:
    """All of the arithmetic, in one thread. Raises ArtifactRefused."""
    manifest = base.manifest
    vectors = [submissions.check(manifest, context, index, content) for index, content in enumerate(contents)]
    aggregate = add(manifest.public_key, vectors)
    seeds = [submission.seed for submission in seen.round.submissions]
    rows = manifest.specification.matrix(base.columns)
    step = evaluate(manifest, base.private_key, aggregate, seeds, context, rows, base.step, base.answered)
    weights = None
    if step.reason is None:
        weights = EncryptedWeights.seal(manifest, base.version + 1, base.digest, base.private_key.encrypt(step.weights)).to_bytes()
    report = RoundReport(
        context=context,
        new_error=step.error,
        step=step.size,
        aggregate=aggregate_digest(manifest.public_key, aggregate),
        weights=base.digest if weights is None else digest_of(weights),
    )
    return _Evaluated(step, weights, report.to_bytes())


async def _store(world: World, seen: Seen, base: _Base, evaluated: _Evaluated) -> None:
    """Make the result the round's, unless another call was quicker: then that one's stays."""
    async with world.database.begin() as session:
        rows = await own_rows(session, seen)
        if rows is None or rows[1].report_digest is not None:
            return
        row = rows[1]
        row.error_after, row.reason = evaluated.step.error, evaluated.step.reason
        row.report, row.report_digest = evaluated.report, digest_of(evaluated.report)
        row.new_weights_digest = base.digest if evaluated.weights is None else digest_of(evaluated.weights)
        if evaluated.weights is not None and base.manifest.objective.method == "conjugate-gradients":
            row.sealed_gradient = world.keys.seal_gradient(seen.round_id, evaluated.step.opened)
        if evaluated.weights is not None:
            session.add(
                Weights(
                    model=base.model,
                    version=base.version + 1,
                    digest=row.new_weights_digest,
                    error=evaluated.step.error,
                    sealed_weights=world.keys.seal_weights(base.model, row.new_weights_digest, evaluated.step.weights),
                    content=evaluated.weights,
                )
            )
    log.info("round_evaluated", round_id=seen.round_id, error=evaluated.step.error, reason=evaluated.step.reason)


async def _send(world: World, seen: Seen) -> Outcome:
    """Publish what is stored, then report it."""
    async with world.database.begin() as session:
        row = (await session.execute(select(Round).where(Round.round_id == seen.round_id))).scalar_one()
        await session.refresh(row, ["report"])
        published = select(Weights.content).where(Weights.model == row.model, Weights.digest == row.new_weights_digest)
        content = (await session.execute(published)).scalar_one()
    new_weights = await put_pinned(world.store, content)
    report = await put_pinned(world.store, row.report or b"")
    async with world.database.begin() as session:
        call = world.repository.report_round(seen.round_id, ErrorUnits(row.error_after or 0), new_weights, report)
        await send(session, world, intent=f"report:{seen.round_id}", call=call, purpose=REPORT, subject=str(seen.round_id))
    return pending(row.reason)
