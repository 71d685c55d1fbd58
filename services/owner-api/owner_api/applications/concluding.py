"""Ends: the answer is fetched and opened, or the request has expired. A lender is paid for anchoring; what it anchored is judged here."""

from __future__ import annotations

import structlog

from hessian.artifacts.codec import ArtifactRefused
from hessian.artifacts.score_answer import Quote, ScoreAnswer
from hessian.chain.deployment_records import RequestState
from hessian.errors import Conflict, IpfsUnavailable, Refused, Violated
from hessian.identifiers import DeploymentId
from hessian.lending.decision import Decision, decisions_by_band
from owner_api.applications import secrets
from owner_api.applications.offers import view_offer
from owner_api.applications.preparing import market
from owner_api.applications.requests import RequestView, application_of, view_request
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.states import ApplicationState
from owner_api.tables import Application
from owner_api.world import World

log = structlog.get_logger()
_PAID_FOR_NOTHING = "the lender was paid, but its answer cannot be read: "
_EXPIRED = "the lender did not answer in time; the fee is credited to this account in the contract"
_CONTRADICTION = "the quote contradicts the policy that this deployment publishes: the lender may refuse to stand by it"
_NOT_COMPARED = "the quote could not be compared with the published policy: "


async def conclude(world: World, request_id: int) -> OutcomeRead:
    """Book the end of a request of this node. Raises NotFinalYet, Unavailable: an answer's bytes are waited for, for a time."""
    view = await view_request(world, request_id)
    async with world.database.begin() as session:
        outcome = _standing(await application_of(session, world, view), view)
    if outcome is not None:
        return outcome
    is_answered = view.request.state is RequestState.ANSWERED
    answer = await _fetch(world, view) if is_answered else None
    published = await _published_decisions(world, view.request.deployment_id) if is_answered else ""
    async with world.database.begin() as session:
        application = await application_of(session, world, view)
        outcome = _standing(application, view)
        if outcome is None and application is not None:
            _book(world, application, view, answer, published)
    return OutcomeRead(outcome=Outcome.DONE)


def _standing(application: Application | None, view: RequestView) -> OutcomeRead | None:
    """The answer when there is nothing to book."""
    if application is None:
        return OutcomeRead(outcome=Outcome.FOREIGN)
    if application.state != ApplicationState.WAITING:
        return OutcomeRead(outcome=Outcome.DONE)
    return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=f"request {view.request_id} is waiting") if view.is_waiting else None


async def _fetch(world: World, view: RequestView) -> bytes | str:
    """The answer's bytes, or why there never will be any. Raises IpfsUnavailable while they may still come."""
    try:
        return await world.store.get(view.request.answer_digest)
    except IpfsUnavailable as error:
        if view.block.timestamp <= view.request.deadline + world.settings.borrowing_answer_seconds:
            raise
        return f"nobody has the bytes that it anchored ({error.sentence})"
    except Refused as refusal:
        return refusal.sentence


async def _published_decisions(world: World, deployment_id: DeploymentId) -> tuple[Decision, ...] | str:
    """Every decision that the published bands and policy can come to, or why they cannot be read: a borrower does not lose its quote
    because the lender stops publishing."""
    try:
        scoring = (await view_offer(world, deployment_id)).scoring
    except (Conflict, IpfsUnavailable) as error:
        return error.sentence
    return decisions_by_band(scoring.policy, scoring.calibration)


def _book(
    world: World, application: Application, view: RequestView, answer: bytes | str | None, published: tuple[Decision, ...] | str
) -> None:
    if answer is None:
        application.move_to(ApplicationState.EXPIRED, _EXPIRED)
    else:
        application.answer_digest, application.answered_at = view.request.answer_digest, view.block.timestamp
        try:
            quote = _opened(world, application, view, answer)
        except ArtifactRefused as refusal:
            application.move_to(ApplicationState.UNREADABLE, _PAID_FOR_NOTHING + refusal.sentence)
        else:
            secrets.keep_quote(world.vault, application, quote)
            application.move_to(ApplicationState.QUOTED, _doubt_about(quote, published))
    log.info("application_concluded", application_id=str(application.id), request_id=int(view.request_id), state=application.state)


def _opened(world: World, application: Application, view: RequestView, answer: bytes | str) -> Quote:
    """Raises ArtifactRefused."""
    if isinstance(answer, str):
        raise ArtifactRefused(answer)
    if application.query_digest is None:
        raise Violated(f"application {application.id} is answered without a query")
    key = secrets.answer_key_of(world.vault, application)
    return ScoreAnswer.from_bytes(answer).open(key, market(world), view.request_id, application.query_digest)


def _doubt_about(quote: Quote, published: tuple[Decision, ...] | str) -> str | None:
    if isinstance(published, str):
        return _NOT_COMPARED + published
    return None if quote.decision in published else _CONTRADICTION
