"""What the node's coordinator asks for when the chain calls for it: `/v1/cohorts/{id}/rounds`, `/v1/rounds/{id}/…`. All idempotent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from hessian.errors import IpfsUnavailable
from hessian.identifiers import CohortId, RoundId
from hessian.service.edge import StrictJsonRoute
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from lender_api.models.preparation import PinMissing
from lender_api.rounds import report, service
from lender_api.rounds.schemas import Outcome
from lender_api.rounds.service import NotYetFinal
from lender_api.world import TheWorld

router = APIRouter(tags=["coordination"], route_class=StrictJsonRoute, dependencies=[Depends(requires("coordinator"))])

ChainNumber = Annotated[int, Path(ge=1, lt=2**63, description="The contract's own number")]


@router.post("/cohorts/{cohort_id}/rounds", responses=refusals(NotYetFinal, IpfsUnavailable), summary="Open a round")
async def open_round(world: TheWorld, cohort_id: ChainNumber) -> Outcome:
    """The cohort is sealed, or its last round settled short of the target."""
    return await service.open_round(world, CohortId(cohort_id))


@router.post("/rounds/{round_id}/accept", responses=refusals(NotYetFinal, IpfsUnavailable), summary="Accept the submissions")
async def accept(world: TheWorld, round_id: ChainNumber) -> Outcome:
    """Every member has submitted: fetch, check and keep their artifacts, then accept on chain."""
    return await service.accept(world, RoundId(round_id))


@router.post("/rounds/{round_id}/evaluate", responses=refusals(NotYetFinal, IpfsUnavailable, PinMissing), summary="Evaluate and report")
async def evaluate(world: TheWorld, round_id: ChainNumber) -> Outcome:
    """Every member has unlocked: open the sum, take the step, publish the new encrypted weights, report the new error."""
    return await report.evaluate_round(world, RoundId(round_id))


@router.post("/rounds/{round_id}/expire", responses=refusals(NotYetFinal, IpfsUnavailable), summary="Expire a round")
async def expire(world: TheWorld, round_id: ChainNumber) -> Outcome:
    """The round's deadline has passed at the final block."""
    return await service.expire(world, RoundId(round_id))
