"""`/v1/deployments`, and the calibration of a model that might become one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from sqlalchemy import select

from hessian.artifacts.codec import ArtifactRefused
from hessian.learning.calibration import DEFAULT_BANDS, CalibrationRefused
from hessian.learning.scoring import DEFAULT_BLINDING_BITS, ScaleRefused
from hessian.lending.policy import PolicyRefused
from hessian.postgres.idempotency import IdempotencyKeyReused, once
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey, Page, PageLimit, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction
from lender_api.deployments import service
from lender_api.deployments.calibration import ModelNotTrained, calibrate
from lender_api.deployments.schemas import Bands, BlindingBits, CalibrationRead, CreateDeployment, DeploymentRead
from lender_api.deployments.service import DeploymentNotServing, DeploymentUnknown, WindowTooShort
from lender_api.models import service as models
from lender_api.models.service import ModelNotOnChain, ModelUnknown
from lender_api.requests import history
from lender_api.requests.schemas import RequestRead
from lender_api.tables import Deployment, IdempotentAnswer
from lender_api.world import TheWorld

router = APIRouter(tags=["deployments"], route_class=StrictJsonRoute, dependencies=[Depends(requires("admin"))])

After = Annotated[int, Depends(page_after)]
_NOT_CALIBRATED = (ModelUnknown, ModelNotOnChain, ModelNotTrained, CalibrationRefused, ScaleRefused)


@router.get("/models/{id}/calibration", responses=refusals(*_NOT_CALIBRATED), summary="Calibrate a trained model")
async def calibration(
    session: Transaction,
    world: TheWorld,
    id: UUID,  # the path's own word
    blinding_bits: BlindingBits = DEFAULT_BLINDING_BITS,
    bands: Bands = DEFAULT_BANDS,
) -> CalibrationRead:
    """What its scores mean on its validation rows, so that a policy can be chosen. Nothing is stored; the same rows give the same table."""
    model = await models.get(session, id)
    return CalibrationRead.of(await calibrate(session, world, model, blinding_bits=blinding_bits, bands=bands))


@router.post(
    "/deployments",
    status_code=HTTPStatus.ACCEPTED,
    responses=refusals(*_NOT_CALIBRATED, PolicyRefused, WindowTooShort, ArtifactRefused, IdempotencyKeyReused),
    summary="Deploy a trained model",
)
async def create(session: Transaction, world: TheWorld, key: IdempotencyKey, request: CreateDeployment) -> DeploymentRead:
    """Calibrate, publish the scoring model and offer it on chain. Calibration, policy, fee and window never change afterwards.

    Follow `GET /v1/deployments/{id}` until its state is `serving` or `failed`.
    """

    async def act() -> DeploymentRead:
        return DeploymentRead.of(await service.create(session, world, request))

    text = f"POST /v1/deployments {request.model_dump_json()}"
    return await once(session, IdempotentAnswer, caller="admin", key=key, request=text, answer_type=DeploymentRead, act=act)


@router.get("/deployments", summary="List deployments")
async def index(session: Transaction, after: After, limit: PageLimit = 50) -> Page[DeploymentRead]:
    """In the order of creation."""
    query = select(Deployment).where(Deployment.number > after).order_by(Deployment.number).limit(limit + 1)
    rows = list((await session.execute(query)).scalars())
    cursor = next_cursor(rows[limit - 1].number) if len(rows) > limit else None
    return Page(items=[DeploymentRead.of(row) for row in rows[:limit]], next=cursor)


@router.get("/deployments/{id}", responses=refusals(DeploymentUnknown), summary="Look at a deployment")
async def show(session: Transaction, id: UUID) -> DeploymentRead:  # the path's own word
    """Where it stands, what it was calibrated to, and every decision it can come to."""
    return DeploymentRead.of(await service.get(session, id))


@router.get("/deployments/{id}/requests", responses=refusals(DeploymentUnknown), summary="A deployment's requests")
async def requests(
    session: Transaction, world: TheWorld, id: UUID, after: After, limit: PageLimit = 50
) -> Page[RequestRead]:  # the path's own word
    """Who asked, what was decided or why nothing was, and which quotes were accepted."""
    return await history.page(session, world, await service.get(session, id), after=after, limit=limit)


@router.post(
    "/deployments/{id}/retire",
    status_code=HTTPStatus.ACCEPTED,
    responses=refusals(DeploymentUnknown, DeploymentNotServing, IdempotencyKeyReused),
    summary="Retire a deployment",
)
async def retire(session: Transaction, world: TheWorld, key: IdempotencyKey, id: UUID) -> DeploymentRead:  # the path's own word
    """Take no new requests; those that wait are still answered.

    The deployment stays `serving` until the transaction is final, and if the contract refuses it.
    """

    async def act() -> DeploymentRead:
        return DeploymentRead.of(await service.retire(session, world, id))

    text = f"POST /v1/deployments/{id}/retire"
    return await once(session, IdempotentAnswer, caller="admin", key=key, request=text, answer_type=DeploymentRead, act=act)
