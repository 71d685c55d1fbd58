"""A lender's deployments: taking the wish, reading, retiring. What takes long is preparation.py's."""

from __future__ import annotations

import uuid

from sqlalchemy import event, select

from hessian.chain.blocks import Receipt
from hessian.chain.deployment_events import DeploymentRetired, ModelDeployed, decode_all
from hessian.errors import Conflict, Malformed, NotFound, Unavailable
from hessian.identifiers import DeploymentId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from lender_api import tables
from lender_api.deployments.calibration import calibrate
from lender_api.deployments.schemas import CreateDeployment
from lender_api.deployments.states import DeploymentState, move_to
from lender_api.models import service as models
from lender_api.models.conclusion import EventMissing
from lender_api.sending import send
from lender_api.tables import Deployment
from lender_api.world import World

DEPLOY, RETIRE = "deploy", "retire_deployment"


class DeploymentUnknown(NotFound):
    """There is no such deployment."""


class WindowTooShort(Malformed):
    """The contract takes longer answer windows only."""


class DeploymentNotServing(Conflict):
    """The deployment is not on chain yet, or retired."""


class DeploymentNotSettled(Unavailable):
    """A deployment of this node is on its way to the chain; which number it has is not known here yet."""


async def create(session: Session, world: World, request: CreateDeployment) -> Deployment:
    """Calibrate, judge, and write the row that the worker takes on.

    Raises what `calibrate` raises, ModelUnknown, PolicyRefused, WindowTooShort; then nothing is stored.
    """
    model = await models.get(session, request.model)
    policy = request.policy.to_policy()
    least = await world.deployment.minimum_window(await world.chain.final_block())
    if request.answer_window < least:
        raise WindowTooShort(f"answer_window: this contract takes windows of {least} s and longer, not {request.answer_window} s")
    calibrated = await calibrate(session, world, model, blinding_bits=request.blinding_bits, bands=request.bands)
    manifest = await models.manifest_of(session, world, model)
    policy.check_against([feature.name for feature in manifest.specification.features])
    deployment = Deployment(
        id=uuid.uuid4(),
        model=model.id,
        state=DeploymentState.PREPARING.value,
        weights_digest=calibrated.weights_digest,
        scale=calibrated.scale.to_plain(),
        calibration=calibrated.table.to_plain(),
        figures=calibrated.figures,
        policy=policy.to_plain(),
        fee_wei=request.fee_wei,
        answer_window=request.answer_window,
    )
    session.add(deployment)
    await session.flush()
    await session.refresh(deployment)
    event.listen(session.sync_session, "after_commit", lambda _: world.to_prepare.set(), once=True)
    return deployment


async def get(session: Session, identity: uuid.UUID) -> Deployment:
    """Raises DeploymentUnknown."""
    deployment = (await session.execute(select(Deployment).where(Deployment.id == identity))).scalar_one_or_none()
    if deployment is None:
        raise DeploymentUnknown
    return deployment


async def by_chain_id(session: Session, deployment_id: DeploymentId) -> Deployment | None:
    """Our row of a deployment on chain; None when this database never made it.

    Raises DeploymentNotSettled while it might still be one of those on their way.
    """
    found = (await session.execute(select(Deployment).where(Deployment.deployment_id == deployment_id))).scalar_one_or_none()
    on_their_way = select(Deployment.id).where(Deployment.state == DeploymentState.DEPLOYING.value).limit(1)
    if found is None and (await session.execute(on_their_way)).first():
        raise DeploymentNotSettled
    return found


async def retire(session: Session, world: World, identity: uuid.UUID) -> Deployment:
    """Stop new requests. Raises DeploymentUnknown, DeploymentNotServing."""
    deployment = await get(session, identity)
    if deployment.state != DeploymentState.SERVING.value or deployment.deployment_id is None:
        raise DeploymentNotServing(f"the deployment is {deployment.state}: only one that serves can be retired")
    call = world.deployment.retire(DeploymentId(deployment.deployment_id))
    await send(session, world, intent=f"retire:{identity}", call=call, purpose=RETIRE, subject=str(identity))
    return deployment


async def on_deployed(session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: the deployment has its number, or never will."""
    deployment = await _of(session, row)
    if receipt is None or row.state is not TransactionState.FINAL:
        move_to(deployment, DeploymentState.FAILED, f"the model could not be deployed on chain: {row.failure}")
        return
    made = next((said for said in decode_all(receipt.logs, row.to) if isinstance(said, ModelDeployed)), None)
    if made is None:
        raise EventMissing("deploy emitted no ModelDeployed")
    deployment.deployment_id = made.deployment_id
    move_to(deployment, DeploymentState.SERVING)


async def on_retired(session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: it takes no new requests. A refused retirement changes nothing."""
    if receipt is None or row.state is not TransactionState.FINAL:
        return
    deployment = await _of(session, row)
    for said in decode_all(receipt.logs, row.to):
        if isinstance(said, DeploymentRetired) and deployment.state == DeploymentState.SERVING.value:
            move_to(deployment, DeploymentState.RETIRED)


async def _of(session: Session, row: tables.Outbox) -> Deployment:
    return (await session.execute(select(Deployment).where(Deployment.id == uuid.UUID(row.subject)).with_for_update())).scalar_one()
