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
from sqlalchemy import ColumnElement, delete, func, or_, select

from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.blocks import Block, NodeAnswerInvalid
from hessian.chain.events import RoundSettled
from hessian.chain.records import CohortRecord, ModelRecord, RoundRecord
from hessian.chain.records import ModelState as ChainState
from hessian.chain.repository import ModelUnknown
from hessian.errors import Refused, Unavailable, Violated
from hessian.identifiers import Digest, ErrorUnits, ModelId
from hessian.ipfs.store import ArtifactTooLarge, BytesDiffer
from hessian.learning.features import IntMatrix
from hessian.learning.metrics import validation_error
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.fixed_point import centre
from hessian.postgres.session import Session
from lender_api.models.service import manifest_of
from lender_api.rounds.history import remember, weights_of
from lender_api.rounds.settlements import Settlements
from lender_api.tables import Model, ModelKey, Round, ValidationSet, Weights
from lender_api.validation_sets.service import cells
from lender_api.world import World

log = structlog.get_logger()

AGAIN_SECONDS, LONGEST_SECONDS = 5.0, 60.0
"""How long a neighbour that does not answer is left alone: at first, and at most."""

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


@dataclass(frozen=True, slots=True, repr=False)
class Missing:
    """A settled round that is not known here, as the neighbours tell it. `content` are the weights it left; None: it kept `base`."""

    event: RoundSettled
    record: RoundRecord
    cohort: CohortRecord
    base: Weights
    content: bytes | None


async def catch_up(world: World, model_id: ModelId, block: Block, record: ModelRecord) -> None:
    """Bring in what this database does not know of a model's settled rounds; nothing is asked of a neighbour when it knows them all.

    `record` is the model at `block`, a final one. One call does it at a time, and the next ones find it done.
    Raises WeightsDisagree, KeyLost, IpfsUnavailable, ChainUnavailable.
    """
    if record.lender != world.keys.address or await _behind(world, model_id, record) is None:
        return
    settlements = world.settlements.setdefault(model_id, Settlements(model_id, world.first_block))
    async with settlements.one_at_a_time:
        model = await _behind(world, model_id, record)
        if model is None:
            return
        log.warning("settled_rounds_missing", model_id=model_id)
        judge = None
        for event in await settlements.until(world.repository, block):
            missing = await _fetch(world, model, block, event)
            if missing is None:
                continue
            weights = None
            if missing.content is not None:
                judge = judge or await _judge(world, model)  # the matrix of all validation rows: not before there is something to judge
                place = missing.base.version + 1, missing.base.digest
                weights = await asyncio.to_thread(judge.open, missing.content, *place, event.new_error)
            await _keep(world, model, missing, weights)
        if await _behind(world, model_id, record) is not None:
            settlements.forget()
            raise NodeAnswerInvalid(f"the Ethereum node tells of fewer settled rounds of model {model_id} than the contract counts")


async def catch_up_all(world: World, stop: asyncio.Event) -> None:
    """Every model on chain, once after a start; who does not answer is asked again, ever later, until `stop`.

    Raises WeightsDisagree, KeyLost.
    """
    left: list[ModelId] | None = None
    seconds = AGAIN_SECONDS
    while left != [] and not stop.is_set():
        try:
            left = await _attempt(world, await _on_chain(world) if left is None else left, seconds)
        except Unavailable as error:
            log.warning("recovery_waits", reason=error.sentence, seconds=seconds)
        if left != []:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds)
            seconds = min(LONGEST_SECONDS, 2 * seconds)


async def _on_chain(world: World) -> list[ModelId]:
    async with world.database.begin() as session:
        query = select(Model.model_id).where(Model.model_id.is_not(None)).order_by(Model.number)
        return [ModelId(number) for number in (await session.execute(query)).scalars() if number is not None]


async def _attempt(world: World, models: list[ModelId], seconds: float) -> list[ModelId]:
    """One look at each of them; those that must wait for a neighbour. Raises Unavailable when there is no chain to look at."""
    block, waiting = await world.chain.final_block(), []
    for model_id in models:
        try:
            await catch_up(world, model_id, block, await world.repository.model(model_id, block))
        except (Unavailable, ModelUnknown) as error:  # a model that was final is unknown to a node that is behind
            log.warning("recovery_waits", model_id=model_id, reason=error.sentence, seconds=seconds)
            waiting.append(model_id)
    return waiting


async def _behind(world: World, model_id: ModelId, record: ModelRecord) -> Model | None:
    """The model if something of it is missing; None when all of it is known here, or nothing.

    Missing are its newest weights, or a settled round: those that moved nothing count against a cohort. Weights newer than the chain's
    belong to a report that is not settled yet; where there is none, they are of an evaluation whose round was settled by another report.
    """
    settled = record.rounds_paid - (record.state is ChainState.DEFAULTED)
    async with world.database.begin() as session:
        model = (await session.execute(select(Model).where(Model.model_id == model_id))).scalar_one_or_none()
        if model is None:
            return None
        reports = select(func.count()).where(Round.model == model.id, Round.report_digest.is_not(None))
        versions = select(func.max(Weights.version)).where(Weights.model == model.id)
        parts = (reports, versions.where(Weights.digest == record.weights_digest), versions)
        at_once = select(*(part.scalar_subquery() for part in parts))  # an evaluation that ends meanwhile adds to the first and the last
        reported, newest, latest = (await session.execute(at_once)).one()
        if reported < settled or newest is None:
            return model
        return model if reported == settled and latest > newest else None


async def _fetch(world: World, model: Model, block: Block, event: RoundSettled) -> Missing | None:
    """A settled round from chain and IPFS, None when it is known so. Raises WeightsDisagree, KeyLost, IpfsUnavailable, ChainUnavailable."""
    async with world.database.begin() as session:
        if await _is_known(session, event):
            return None
    record = await world.repository.round(event.round_id, block)
    cohort = await world.repository.cohort(event.cohort_id, block)
    async with world.database.begin() as session:
        base = await weights_of(session, model, record.weights_digest)
    if event.new_weights_digest == record.weights_digest:
        if event.new_error != base.error:
            raise WeightsDisagree(f"round {event.round_id} kept weights with an error of {base.error}, the chain says {event.new_error}")
        return Missing(event, record, cohort, base, None)
    try:
        return Missing(event, record, cohort, base, await world.store.get(event.new_weights_digest))
    except ArtifactTooLarge as error:  # nothing that this lender published is: the node sends something else
        raise BytesDiffer(f"the IPFS node sends more than the weights that round {event.round_id} left") from error


async def _judge(world: World, model: Model) -> Judge:
    async with world.database.begin() as session:
        session.add(model)
        manifest = await manifest_of(session, world, model)
        key = (await session.execute(select(ModelKey).where(ModelKey.model == model.id))).scalar_one()
        rows = (await session.execute(select(ValidationSet).where(ValidationSet.id == model.validation_set_id))).scalar_one()
        columns = await cells(session, world, rows, manifest.specification.columns)
    private_key = world.keys.open_private_key(key)
    return Judge(manifest, private_key, await asyncio.to_thread(manifest.specification.matrix, columns))


async def _keep(world: World, model: Model, missing: Missing, weights: list[int] | None) -> None:
    """Store a missing round and the weights it left, None if it moved nothing; what an evaluation since the restore made of it goes."""
    event, base = missing.event, missing.base
    async with world.database.begin() as session:
        await session.execute(select(Model.id).where(Model.id == model.id).with_for_update())
        if await _is_known(session, event):
            return
        row = await remember(session, model, event.round_id, missing.record, missing.cohort)
        # that evaluation's report never got there: the one that did was on its way already
        too_late: ColumnElement[bool] = Weights.digest.in_({row.new_weights_digest} - {None, base.digest, event.new_weights_digest})
        if weights is None:
            row.reason, row.sealed_gradient = row.reason or MOVED_NOTHING, None
        else:
            row.reason, too_late = None, or_(too_late, Weights.version == base.version + 1)
        await session.execute(delete(Weights).where(Weights.model == model.id, too_late))
        row.error_after, row.new_weights_digest = event.new_error, event.new_weights_digest
        row.report_digest, row.report = event.report_digest, None
        row.reward_wei, row.pool_wei = event.reward, event.pool
        row.settled_at = datetime.fromtimestamp(event.place.timestamp, UTC)
        if weights is not None:
            session.add(
                Weights(
                    model=model.id,
                    version=base.version + 1,
                    digest=event.new_weights_digest,
                    error=event.new_error,
                    sealed_weights=world.keys.seal_weights(model.id, event.new_weights_digest, weights),
                    content=missing.content,
                )
            )
    log.warning("round_recovered", model_id=event.model_id, round_id=event.round_id, error=event.new_error)


async def _is_known(session: Session, event: RoundSettled) -> bool:
    known = select(Round.number).where(Round.round_id == event.round_id, Round.report_digest == event.report_digest)
    return (await session.execute(known)).first() is not None
