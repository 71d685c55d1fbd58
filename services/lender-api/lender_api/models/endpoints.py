"""`/v1/models`: the lender's own, and what its coordinator asks when a model has ended."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from sqlalchemy import select

from hessian.artifacts.codec import ArtifactRefused
from hessian.errors import ChainUnavailable, IpfsUnavailable
from hessian.identifiers import ModelId
from hessian.learning.affine import BoundsRefused
from hessian.learning.cells import CellRefused
from hessian.learning.columns import ColumnMissing, SpecificationRefused
from hessian.learning.fitting import FitRefused
from hessian.learning.objective import ObjectiveRefused
from hessian.paillier.packing import LayoutRefused
from hessian.postgres.idempotency import IdempotencyKeyReused, once
from hessian.privacy.requirement import PrivacyRefused
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey, Page, PageLimit, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction
from lender_api.models import conclusion, service
from lender_api.models.fit import TooFewRows, WeightsTooLarge
from lender_api.models.schemas import CreateModel, ModelRead, WeightsRead
from lender_api.models.service import BalanceTooLow, KeyTooSmall, ModelAlreadyClosed, ModelNotOnChain, ModelUnknown, RoundInFlight
from lender_api.models.terms import TermsRefused
from lender_api.rounds import history
from lender_api.rounds.schemas import Outcome, RoundRead
from lender_api.tables import IdempotentAnswer, Model
from lender_api.validation_sets.service import ValidationSetUnknown
from lender_api.world import TheWorld

router = APIRouter(prefix="/models", tags=["models"], route_class=StrictJsonRoute, dependencies=[Depends(requires("admin"))])
coordinator_router = APIRouter(
    prefix="/models", tags=["coordination"], route_class=StrictJsonRoute, dependencies=[Depends(requires("coordinator"))]
)

After = Annotated[int, Depends(page_after)]


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    responses=refusals(
        ValidationSetUnknown, KeyTooSmall, BalanceTooLow, TermsRefused, TooFewRows, WeightsTooLarge, LayoutRefused, BoundsRefused,
        CellRefused, ColumnMissing, FitRefused, SpecificationRefused, ObjectiveRefused, PrivacyRefused, ArtifactRefused,
        IdempotencyKeyReused,
    ),
    summary="Create a model",
)  # fmt: skip
async def create(session: Transaction, world: TheWorld, key: IdempotencyKey, request: CreateModel) -> ModelRead:
    """Fit the features on the validation rows; then, in the background, make the key, publish, and escrow the bounty.

    Follow `GET /v1/models/{id}` until its state is `open` or `failed`.
    """

    async def act() -> ModelRead:
        return ModelRead.model_validate(await service.create(session, world, request))

    text = "POST /v1/models " + json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return await once(session, IdempotentAnswer, caller="admin", key=key, request=text, answer_type=ModelRead, act=act)


@router.get("", summary="List models")
async def index(session: Transaction, after: After, limit: PageLimit = 50) -> Page[ModelRead]:
    """In the order of creation."""
    query = select(Model).where(Model.number > after).order_by(Model.number).limit(limit + 1)
    rows = list((await session.execute(query)).scalars())
    cursor = next_cursor(rows[limit - 1].number) if len(rows) > limit else None
    return Page(items=[ModelRead.model_validate(row) for row in rows[:limit]], next=cursor)


@router.get("/{id}", response_model=ModelRead, responses=refusals(ModelUnknown), summary="Look at a model")
async def show(session: Transaction, id: UUID) -> Model:  # the path's own word
    """Where it stands."""
    return await service.get(session, id)


@router.get("/{id}/rounds", responses=refusals(ModelUnknown), summary="A model's rounds")
async def rounds(
    session: Transaction, world: TheWorld, id: UUID, after: After, limit: PageLimit = 50
) -> Page[RoundRead]:  # the path's own word
    """What every round cost and brought, in order."""
    return await history.page(session, world, await service.get(session, id), after=after, limit=limit)


@router.get("/{id}/weights", responses=refusals(ModelUnknown, ModelNotOnChain), summary="The weights in plain")
async def weights(session: Transaction, world: TheWorld, id: UUID) -> WeightsRead:  # the path's own word
    """The lender's own model: the newest weights, as integers at a published scale."""
    return await service.weights(session, world, id)


@router.post(
    "/{id}/close",
    status_code=HTTPStatus.ACCEPTED,
    responses=refusals(ModelUnknown, ModelNotOnChain, ModelAlreadyClosed, RoundInFlight, IdempotencyKeyReused),
    summary="Close a model",
)
async def close(session: Transaction, world: TheWorld, key: IdempotencyKey, id: UUID) -> ModelRead:  # the path's own word
    """Take the remaining escrow back as credit; an open model is cancelled. Possible between rounds."""

    async def act() -> ModelRead:
        return ModelRead.model_validate(await service.close(session, world, id))

    text = f"POST /v1/models/{id}/close"
    return await once(session, IdempotentAnswer, caller="admin", key=key, request=text, answer_type=ModelRead, act=act)


@coordinator_router.post("/{model_id}/conclude", responses=refusals(ChainUnavailable, IpfsUnavailable), summary="A model has ended")
async def conclude(world: TheWorld, model_id: Annotated[int, Path(ge=1, lt=2**63)]) -> Outcome:
    """Take over how it ended and close it for the rest of the escrow. Idempotent."""
    return await conclusion.conclude(world, ModelId(model_id))
