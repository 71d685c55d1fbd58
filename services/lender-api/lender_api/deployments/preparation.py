"""The durable part of deploying: every step starts from the row's state, ends in one commit, and may be killed anywhere.

preparing    the final weights encrypted anew at the scoring scale, with calibration and policy (stored)
publishing   to IPFS, the pin verified → deploy in the outbox
deploying    the outbox's; its handler writes the contract's number
"""

from __future__ import annotations

import asyncio
import uuid

from sqlalchemy import select

from hessian.artifacts.scoring_model import ScoringModel
from hessian.errors import Refused
from hessian.identifiers import Digest, ModelId, Wei, digest_of
from hessian.learning.calibration import CalibrationTable
from hessian.learning.scoring import ScoringScale
from hessian.lending.policy import RatePolicy
from hessian.postgres.session import Session
from lender_api.deployments.service import DEPLOY
from lender_api.deployments.states import DeploymentState, move_to
from lender_api.models.preparation import put_pinned
from lender_api.models.service import manifest_of
from lender_api.rounds.history import weights_of
from lender_api.sending import send
from lender_api.tables import Deployment, Model, ModelKey
from lender_api.world import World


async def unfinished(session: Session) -> list[uuid.UUID]:
    """The deployments that `advance` has something to do for."""
    states = [DeploymentState.PREPARING.value, DeploymentState.PUBLISHING.value]
    query = select(Deployment.id).where(Deployment.state.in_(states)).order_by(Deployment.number)
    return list((await session.execute(query)).scalars())


async def advance(world: World, identity: uuid.UUID) -> None:
    """Take one deployment to `deploying`, or to `failed` when it is refused on the way. Raises Unavailable."""
    try:
        await _prepare(world, identity)
        await _publish(world, identity)
    except Refused as error:
        async with world.database.begin() as session:
            move_to(await _locked(session, identity), DeploymentState.FAILED, error.sentence)


async def _prepare(world: World, identity: uuid.UUID) -> None:
    """preparing → publishing. Raises ArtifactRefused."""
    async with world.database.begin() as session:
        deployment = await _locked(session, identity)
        if deployment.state != DeploymentState.PREPARING.value:
            return
        model = (await session.execute(select(Model).where(Model.id == deployment.model))).scalar_one()
        manifest = await manifest_of(session, world, model)
        weights = world.keys.open_weights(await weights_of(session, model, deployment.weights_digest))
        sealed_key = (await session.execute(select(ModelKey).where(ModelKey.model == model.id))).scalar_one()
        key = world.keys.open_private_key(sealed_key)
    scale = ScoringScale.from_plain(deployment.scale)

    def sealed() -> bytes:
        ciphertexts = key.encrypt(scale.weights(weights, manifest.bounds.weight_bits))
        table, policy = CalibrationTable.from_plain(deployment.calibration), RatePolicy.from_plain(deployment.policy)
        return ScoringModel.seal(manifest, Digest(deployment.weights_digest), scale, ciphertexts, table, policy).to_bytes()

    content = await asyncio.to_thread(sealed)
    async with world.database.begin() as session:
        deployment = await _locked(session, identity)
        if deployment.state != DeploymentState.PREPARING.value:
            return
        deployment.scoring_model, deployment.scoring_digest = content, digest_of(content)
        move_to(deployment, DeploymentState.PUBLISHING)


async def _publish(world: World, identity: uuid.UUID) -> None:
    """publishing → deploying. Raises IpfsUnavailable, PinMissing."""
    async with world.database.begin() as session:
        deployment = await _locked(session, identity)
        if deployment.state != DeploymentState.PUBLISHING.value:
            return
        await session.refresh(deployment, ["scoring_model"])
        content = deployment.scoring_model or b""
    digest = await put_pinned(world.store, content)
    async with world.database.begin() as session:
        deployment = await _locked(session, identity)
        if deployment.state != DeploymentState.PUBLISHING.value:
            return
        model = (await session.execute(select(Model).where(Model.id == deployment.model))).scalar_one()
        call = world.deployment.deploy(ModelId(int(model.model_id or 0)), digest, Wei(deployment.fee_wei), deployment.answer_window)
        await send(session, world, intent=f"deploy:{identity}", call=call, purpose=DEPLOY, subject=str(identity))
        move_to(deployment, DeploymentState.DEPLOYING)


async def _locked(session: Session, identity: uuid.UUID) -> Deployment:
    return (await session.execute(select(Deployment).where(Deployment.id == identity).with_for_update())).scalar_one()
