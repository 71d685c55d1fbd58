"""The settled rounds that a database restored from an older backup does not know, rebuilt from the chain and IPFS.

The chain says which weights each round left and which error was reported for them; IPFS has the weights, encrypted under the model's own
key, which the backup holds. Nothing of it is believed alone: bytes by their anchored digest, their place in the line of versions, every
weight by its bound, and all of them by the error they give on the validation rows. What nobody else knows does not come back: the gradient
that a sum held (conjugate gradients go on from those that are there), and why a round moved nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import delete, func, select

from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.blocks import Block, NodeAnswerInvalid
from hessian.chain.events import RoundSettled
from hessian.chain.records import ModelRecord
from hessian.chain.records import ModelState as ChainState
from hessian.chain.repository import ModelUnknown
from hessian.errors import Refused, Unavailable, Violated
from hessian.identifiers import Digest, ErrorUnits, ModelId
from hessian.learning.features import IntMatrix
from hessian.learning.metrics import validation_error
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.fixed_point import centre
from hessian.postgres.session import Session
from lender_api.models.service import manifest_of
from lender_api.rounds.history import remember, weights_of
from lender_api.tables import Model, ModelKey, Round, ValidationSet, Weights
from lender_api.validation_sets.service import cells
from lender_api.world import World

log = structlog.get_logger()

AGAIN_SECONDS = 5.0
MOVED_NOTHING = "it moved nothing; why was known only to the database before it was restored"


class WeightsDisagree(Violated):
    """Anchored weights are not what this lender reported."""


@dataclass(frozen=True, slots=True, repr=False)
class Judge:
    """What a model's weights are opened with and held against; `rows` are the validation rows (X, y)."""

    manifest: ModelManifest
    private_key: PrivateKey
    rows: tuple[IntMatrix, IntMatrix]

    def open(self, content: bytes, version: int, parent: Digest, error: ErrorUnits) -> list[int]:
        """The weights at 2^-fw in an artifact that must be number `version`, follow `parent` and give `error`. Raises WeightsDisagree."""
        try:
            artifact = EncryptedWeights.from_bytes(content)
            plain = [self.private_key.decrypt(ciphertext) for ciphertext in artifact.check_against(self.manifest)]
        except Refused as refused:
            raise WeightsDisagree(f"the weights of version {version} on IPFS are refused: {refused.sentence}") from refused
        if (artifact.version, artifact.parent) != (version, parent):
            raise WeightsDisagree(f"the weights anchored as version {version} do not follow the version before them")
        weights = [centre(residue, self.manifest.public_key.n) for residue in plain]
        if any(abs(weight) > self.manifest.bounds.weight_limit for weight in weights):
            raise WeightsDisagree(f"the weights of version {version} are beyond the manifest's bound")
        manifest = self.manifest
        measured = validation_error(weights, *self.rows, score_bits=manifest.score_bits, objective=manifest.objective)
        if measured != error:
            raise WeightsDisagree(f"the weights of version {version} give an error of {measured}, the chain says {error}")
        return weights


async def catch_up(world: World, model_id: ModelId, block: Block, record: ModelRecord) -> None:
    """Bring in what this database does not know of a model's settled rounds; nothing is asked of a neighbour when it knows them all.

    `record` is the model at `block`, a final one. Raises WeightsDisagree, KeyLost, IpfsUnavailable, ChainUnavailable.
    """
    if record.lender != world.keys.address:
        return
    async with world.database.begin() as session:
        model = (await session.execute(select(Model).where(Model.model_id == model_id))).scalar_one_or_none()
        if model is None or not await _is_behind(session, model, record):
            return
        judge = await _judge(session, world, model)
    log.warning("settled_rounds_missing", model_id=model_id)
    for event in await world.repository.events(world.first_block, block.number):
        if isinstance(event, RoundSettled) and event.model_id == model_id:
            await _recover(world, model, judge, block, event)
    async with world.database.begin() as session:
        if await _is_behind(session, model, record):
            raise NodeAnswerInvalid(f"the Ethereum node tells of fewer settled rounds of model {model_id} than the contract counts")


async def catch_up_all(world: World, stop: asyncio.Event) -> None:
    """Every model on chain, once after a start; who does not answer is asked again until `stop`. Raises WeightsDisagree, KeyLost."""
    left: list[ModelId] | None = None
    while left != [] and not stop.is_set():
        try:
            left = await _attempt(world, await _on_chain(world) if left is None else left)
        except Unavailable as error:
            log.warning("recovery_waits", reason=error.sentence, seconds=AGAIN_SECONDS)
        if left != []:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), AGAIN_SECONDS)


async def _on_chain(world: World) -> list[ModelId]:
    async with world.database.begin() as session:
        query = select(Model.model_id).where(Model.model_id.is_not(None)).order_by(Model.number)
        return [ModelId(number) for number in (await session.execute(query)).scalars() if number is not None]


async def _attempt(world: World, models: list[ModelId]) -> list[ModelId]:
    """One look at each of them; those that must wait for a neighbour. Raises Unavailable when there is no chain to look at."""
    block, waiting = await world.chain.final_block(), []
    for model_id in models:
        try:
            await catch_up(world, model_id, block, await world.repository.model(model_id, block))
        except (Unavailable, ModelUnknown) as error:  # a model that was final is unknown to a node that is behind
            log.warning("recovery_waits", model_id=model_id, reason=error.sentence, seconds=AGAIN_SECONDS)
            waiting.append(model_id)
    return waiting


async def _is_behind(session: Session, model: Model, record: ModelRecord) -> bool:
    """Whether the newest weights are missing, or a settled round is: those that moved nothing count against a cohort."""
    settled = record.rounds_paid - (record.state is ChainState.DEFAULTED)
    known = select(func.count()).where(Round.model == model.id, Round.report_digest.is_not(None))
    newest = select(Weights.number).where(Weights.model == model.id, Weights.digest == record.weights_digest)
    return (await session.execute(known)).scalar_one() < settled or (await session.execute(newest)).first() is None


async def _judge(session: Session, world: World, model: Model) -> Judge:
    manifest = await manifest_of(session, world, model)
    key = (await session.execute(select(ModelKey).where(ModelKey.model == model.id))).scalar_one()
    rows = (await session.execute(select(ValidationSet).where(ValidationSet.id == model.validation_set_id))).scalar_one()
    columns = await cells(session, world, rows, manifest.specification.columns)
    private_key = world.keys.open_private_key(key)
    return Judge(manifest, private_key, await asyncio.to_thread(manifest.specification.matrix, columns))


async def _recover(world: World, model: Model, judge: Judge, block: Block, event: RoundSettled) -> None:
    """One round as the chain tells it, unless it is known so."""
    async with world.database.begin() as session:
        if await _is_known(session, event):
            return
        record = await world.repository.round(event.round_id, block)
        base = await weights_of(session, model, record.weights_digest)
    has_moved = event.new_weights_digest != record.weights_digest
    content, weights = b"", list[int]()
    if has_moved:
        content = await world.store.get(event.new_weights_digest)
        weights = await asyncio.to_thread(judge.open, content, base.version + 1, base.digest, event.new_error)
    elif event.new_error != base.error:
        raise WeightsDisagree(f"round {event.round_id} kept weights with an error of {base.error}, the chain says {event.new_error}")
    cohort = await world.repository.cohort(event.cohort_id, block)
    async with world.database.begin() as session:
        await session.execute(select(Model.id).where(Model.id == model.id).with_for_update())
        if await _is_known(session, event):
            return
        row = await remember(session, model, event.round_id, record, cohort)
        row.error_after, row.reason = event.new_error, None if has_moved else row.reason or MOVED_NOTHING
        row.new_weights_digest, row.report_digest, row.report = event.new_weights_digest, event.report_digest, None
        row.reward_wei, row.pool_wei = event.reward, event.pool
        row.settled_at = datetime.fromtimestamp(event.place.timestamp, UTC)
        if has_moved:
            # an evaluation since the restore, of a round whose report was on its way already, never got there
            await session.execute(delete(Weights).where(Weights.model == model.id, Weights.version == base.version + 1))
            session.add(
                Weights(
                    model=model.id,
                    version=base.version + 1,
                    digest=event.new_weights_digest,
                    error=event.new_error,
                    sealed_weights=world.keys.seal_weights(model.id, event.new_weights_digest, weights),
                    content=content,
                )
            )
    log.warning("round_recovered", model_id=event.model_id, round_id=event.round_id, error=event.new_error)


async def _is_known(session: Session, event: RoundSettled) -> bool:
    known = select(Round.number).where(Round.round_id == event.round_id, Round.report_digest == event.report_digest)
    return (await session.execute(known)).first() is not None
