"""`/v1/requests`: the lender's own view, what its coordinator asks for, and the two routes that borrowers' clients call without a token."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path

from hessian.errors import ChainUnavailable, IpfsUnavailable, TooLarge
from hessian.identifiers import RequestId
from hessian.service.edge import StrictJsonRoute
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction
from lender_api.deployments.service import DeploymentNotSettled
from lender_api.models.preparation import PinMissing
from lender_api.requests import acceptance, answering, assessment, history
from lender_api.requests.acceptance import OpeningRefused, QuoteDeclined, QuoteExpired, QuoteMissing
from lender_api.requests.assessment import FeaturesRefused, LeftUnanswered, NotWhatWasNamed, RequestOver
from lender_api.requests.history import RequestNotFinal, RequestNotOurs
from lender_api.requests.lookups import LookupRefused, QueryNotFound
from lender_api.requests.schemas import LARGEST_OPENING, AcceptanceRead, AcceptQuote, AssessmentRead, OpenFeatures, RequestDetail
from lender_api.rounds.schemas import Outcome
from lender_api.world import TheWorld

router = APIRouter(tags=["requests"], route_class=StrictJsonRoute, dependencies=[Depends(requires("admin"))])
coordinator_router = APIRouter(tags=["coordination"], route_class=StrictJsonRoute, dependencies=[Depends(requires("coordinator"))])
public_router = APIRouter(tags=["borrowers"], route_class=StrictJsonRoute)

ChainNumber = Annotated[int, Path(ge=1, lt=2**63, description="The contract's own number")]


@router.get("/requests/{request_id}", responses=refusals(RequestNotOurs), summary="Look at a request")
async def show(session: Transaction, world: TheWorld, request_id: ChainNumber) -> RequestDetail:
    """What was asked, decided and accepted, with the features once their borrower has shown them."""
    return await history.detail(session, world, RequestId(request_id))


@coordinator_router.post(
    "/requests/{request_id}/answer",
    responses=refusals(RequestNotFinal, DeploymentNotSettled, LookupRefused, QueryNotFound, IpfsUnavailable, PinMissing),
    summary="Answer a request",
)
async def answer(world: TheWorld, request_id: ChainNumber) -> Outcome:
    """A borrower asks: fetch and score its query, seal the quote to its key, anchor it. Idempotent."""
    return await answering.answer(world, RequestId(request_id))


@public_router.post(
    "/requests/{request_id}/assessment",
    status_code=HTTPStatus.ACCEPTED,
    max_body_size=LARGEST_OPENING,
    responses=refusals(
        RequestNotOurs, NotWhatWasNamed, FeaturesRefused, RequestOver, LeftUnanswered, TooLarge, DeploymentNotSettled,
        ChainUnavailable, IpfsUnavailable, PinMissing,
    ),
    summary="Show the features of a request in open mode",
)  # fmt: skip
async def assess(world: TheWorld, request_id: ChainNumber, shown: OpenFeatures) -> AssessmentRead:
    """Called by the borrower's own client, without a token: the features must be those that the request on chain names. Idempotent.

    404 also while this node's coordinator has not seen the request in a final block: try again.
    """
    return await assessment.assess(world, RequestId(request_id), shown)


@public_router.post(
    "/requests/{request_id}/acceptance",
    max_body_size=LARGEST_OPENING,
    responses=refusals(RequestNotOurs, OpeningRefused, QuoteMissing, QuoteExpired, QuoteDeclined, TooLarge),
    summary="Accept a quote",
)
async def accept(world: TheWorld, request_id: ChainNumber, shown: AcceptQuote) -> AcceptanceRead:
    """Called by the borrower's own client, without a token: opens the application, and has the lender confirm the terms. Idempotent."""
    return await acceptance.accept(world, RequestId(request_id), shown)
