"""Open mode: the borrower's own client shows the features whose digest the request names, for a lender that gives reasons (PROTOCOL §10).

Anybody may call. Whoever does not hold the features and the salt behind the digest on chain gets one and the same refusal, and whoever does
learns no decision here: the answer goes sealed to the borrower's key, through the chain. What is shown is held against the row that the
coordinator's first call made; the chain is asked for those alone who hold what was named.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from hessian.artifacts.application import OpenApplication
from hessian.artifacts.market import Market
from hessian.chain.deployment_records import RequestState
from hessian.errors import Conflict
from hessian.identifiers import DeploymentId, RequestId
from hessian.learning.application import ApplicationRefused
from hessian.service.problems import FieldsRefused
from lender_api.requests.answering import Begun, begin, publish, score_open, store
from lender_api.requests.history import RequestNotOurs, see
from lender_api.requests.schemas import AssessmentRead, OpenFeatures
from lender_api.rounds.schemas import Outcome
from lender_api.tables import Deployment, ScoreRequest
from lender_api.world import World


class NotWhatWasNamed(Conflict):
    """These features, salt and key are not what the request on chain names."""


class FeaturesRefused(FieldsRefused):
    """The features are not what the model reads, or not in canonical form; `errors` says which fields are wrong and why."""


class RequestOver(Conflict):
    """The request is answered, has expired, or its answer window has ended."""


class LeftUnanswered(Conflict):
    """The lender leaves this request unanswered; the contract gives the fee back."""


async def assess(world: World, request_id: RequestId, shown: OpenFeatures) -> AssessmentRead:
    """Score, decide, seal, store, publish, anchor. Idempotent.

    Raises RequestNotOurs, NotWhatWasNamed, FeaturesRefused, RequestOver, LeftUnanswered, Unavailable.
    """
    application = await _named(world, request_id, shown)
    seen = await see(world, request_id)
    async with world.database.begin() as session:
        begun = await begin(session, world, seen)
    if isinstance(begun, Begun):
        if not begun.is_stored:
            try:
                answered = await asyncio.to_thread(score_open, begun.served, seen, application)
            except ApplicationRefused as refusal:
                places = {f"features.{name}": problem for name, problem in refusal.problems.items()}
                raise FeaturesRefused(refusal.sentence, places) from refusal

            def keep(row: ScoreRequest) -> None:
                row.sealed_features = world.keys.seal_features(row, shown.features)

            if reason := await store(world, seen, begun.served, answered, keep):
                raise LeftUnanswered(reason)
        begun = await publish(world, seen)
        if begun.outcome == "pending":
            return AssessmentRead(request_id=request_id, state="waiting")
    if begun.outcome == "done" and seen.request.state is RequestState.ANSWERED:
        return AssessmentRead(request_id=request_id, state="answered")
    raise _why_not(begun)


async def _named(world: World, request_id: RequestId, shown: OpenFeatures) -> OpenApplication:
    """The application, if it is what the request names. Raises RequestNotOurs, NotWhatWasNamed."""
    named = (
        select(Deployment.deployment_id, ScoreRequest.query_digest)
        .join(Deployment, ScoreRequest.deployment == Deployment.id)
        .where(ScoreRequest.request_id == request_id)
    )
    async with world.database.begin() as session:
        found = (await session.execute(named)).one_or_none()
    if found is None:
        raise RequestNotOurs
    market = Market.at(world.chain.chain_id, world.deployment.address)
    application = OpenApplication(market, DeploymentId(found.deployment_id), shown.features, shown.salt, shown.borrower_key)
    if application.digest != found.query_digest:
        raise NotWhatWasNamed
    return application


def _why_not(begun: Outcome) -> Conflict | RequestNotOurs:
    if begun.outcome == "foreign":
        return RequestNotOurs()
    return RequestOver(begun.reason) if begun.outcome == "superseded" else LeftUnanswered(begun.reason)
