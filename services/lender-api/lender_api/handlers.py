"""Which room hears of the end of which transaction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from hessian.outbox.courier import Handler
from lender_api.deployments import service as deployments
from lender_api.models import conclusion
from lender_api.models import service as models
from lender_api.requests import answering
from lender_api.requests import history as requests
from lender_api.rounds import history
from lender_api.rounds import service as rounds
from lender_api.withdrawals import service as withdrawals
from lender_api.world import World


def handlers(world: World) -> Mapping[str, Handler]:
    """By purpose of the outbox row; `accept_submissions` needs none, the chain is read when it matters."""
    return {
        models.CREATE: conclusion.on_created,
        models.CLOSE: conclusion.on_closed,
        rounds.OPEN: partial(history.on_opened, world),
        rounds.REPORT: partial(history.on_ended, world),
        rounds.EXPIRE: partial(history.on_ended, world),
        deployments.DEPLOY: deployments.on_deployed,
        deployments.RETIRE: deployments.on_retired,
        answering.ANSWER: requests.on_answered,
        withdrawals.PURPOSE: partial(withdrawals.on_withdrawn, world),
    }
