"""Open mode: the borrower's own client shows the features whose digest the request names, for a lender that gives reasons (PROTOCOL §10).

Anybody may call. Whoever does not hold the features and the salt behind the digest on chain gets one and the same refusal, and whoever does
learns no decision here: the answer goes sealed to the borrower's key, through the chain.
"""

from __future__ import annotations

import asyncio

from hessian.artifacts.application import OpenApplication
from hessian.artifacts.market import Market
from hessian.chain.deployment_records import RequestState
from hessian.errors import Conflict
from hessian.identifiers import RequestId
from lender_api.requests.answering import Begun, begin, publish, score_open, store
from lender_api.requests.history import RequestNotOurs, see
from lender_api.requests.schemas import AssessmentRead, OpenFeatures
from lender_api.rounds.schemas import Outcome
from lender_api.tables import ScoreRequest
from lender_api.world import World


class NotWhatWasNamed(Conflict):
    """These features, salt and key are not what the request on chain names."""


class RequestOver(Conflict):
    """The request is answered, has expired, or its answer window has ended."""


class LeftUnanswered(Conflict):
    """The lender leaves this request unanswered; the contract gives the fee back."""


async def assess(world: World, request_id: RequestId, shown: OpenFeatures) -> AssessmentRead:
    """Score, decide, seal, store, publish, anchor. Idempotent.

    Raises RequestNotOurs, NotWhatWasNamed, ApplicationRefused, RequestOver, LeftUnanswered, RequestUnknown, Unavailable.
    """
    seen = await see(world, request_id)
    if seen.deployment.lender != world.keys.address:
        raise RequestNotOurs
    market = Market.at(world.chain.chain_id, world.deployment.address)
    application = OpenApplication(market, seen.request.deployment_id, shown.features, shown.salt, shown.borrower_key)
    if application.digest != seen.request.query_digest:
        raise NotWhatWasNamed
    async with world.database.begin() as session:
        begun = await begin(session, world, seen)
    if isinstance(begun, Begun):
        if not begun.is_stored:
            answered = await asyncio.to_thread(score_open, begun.served, seen, application)

            def keep(row: ScoreRequest) -> None:
                row.sealed_features = world.keys.seal_features(row, shown.features)

            if reason := await store(world, seen, begun.served, answered, keep):
                raise LeftUnanswered(reason)
        await publish(world, seen)
        return AssessmentRead(request_id=request_id, state="waiting")
    if begun.outcome == "done" and seen.request.state is RequestState.ANSWERED:
        return AssessmentRead(request_id=request_id, state="answered")
    raise _why_not(begun)


def _why_not(begun: Outcome) -> Conflict | RequestNotOurs:
    if begun.outcome == "foreign":
        return RequestNotOurs()
    return RequestOver(begun.reason) if begun.outcome == "superseded" else LeftUnanswered(begun.reason)
