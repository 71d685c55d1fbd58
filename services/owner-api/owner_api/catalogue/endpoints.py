"""`/v1/models` for owners, `/v1/catalogue` for the coordinator that announces changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from hessian.chain.repository import ModelUnknown
from hessian.errors import ChainUnavailable, IpfsUnavailable
from hessian.identifiers import ModelId
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import Page, PageLimit, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from owner_api.auth import AnyReader, CoordinatorOnly
from owner_api.catalogue import service
from owner_api.catalogue.schemas import CatalogueModelRead, ManifestRead, TermsRead
from owner_api.catalogue.service import ModelNotFound
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.judgement import model_objections
from owner_api.tables import CatalogueModel
from owner_api.world import TheWorld, World

router = APIRouter(route_class=StrictJsonRoute, prefix="/models", tags=["models"])
coordination = APIRouter(route_class=StrictJsonRoute, prefix="/catalogue", tags=["catalogue"])
ChainNumber = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("", summary="List the models on chain", dependencies=[AnyReader])
async def page(
    world: TheWorld, session: Transaction, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[CatalogueModelRead]:
    """Every announced model with this node's own verdict on it."""
    rows = await service.page(session, after, limit)
    shown = rows[:limit]
    return Page(items=[_read(world, row) for row in shown], next=next_cursor(shown[-1].model_id) if len(rows) > limit else None)


@router.get("/{model_id}", summary="Show a model", dependencies=[AnyReader], responses=refusals(ModelNotFound))
async def read(world: TheWorld, session: Transaction, model_id: ChainNumber) -> CatalogueModelRead:
    """One model of the catalogue."""
    return _read(world, await service.find(session, model_id))


@coordination.put(
    "/{model_id}",
    summary="Look at a model again",
    dependencies=[CoordinatorOnly],
    responses=refusals(ModelUnknown, ChainUnavailable, IpfsUnavailable),
)
async def announce(world: TheWorld, model_id: ChainNumber) -> OutcomeRead:
    """Re-read the model at the final block, fetch and verify its manifest, bring its enrolments up to date."""
    await service.refresh(world, ModelId(model_id))
    return OutcomeRead(outcome=Outcome.DONE)


def _read(world: World, row: CatalogueModel) -> CatalogueModelRead:
    terms = service.terms_of(row)
    return CatalogueModelRead(
        model_id=row.model_id,
        lender=row.lender,
        state=row.state,
        is_closed=row.is_closed,
        best_error=int(row.best_error),
        rounds_paid=row.rounds_paid,
        terms=TermsRead.of(terms),
        manifest_digest=row.manifest_digest,
        manifest=None if row.summary is None else ManifestRead.model_validate(row.summary),
        problem=row.problem,
        cohort_id=row.forming_cohort_id,
        members=f"{row.forming_members}/{terms.cohort_size}",
        objections=model_objections(world.settings, terms, alone_confirmed=False),
    )
