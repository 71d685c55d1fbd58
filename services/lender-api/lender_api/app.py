"""lender-api's FastAPI app on a given world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from hessian.service.app import create_service
from lender_api.deployments import endpoints as deployments
from lender_api.models import endpoints as models
from lender_api.requests import endpoints as requests
from lender_api.rounds import endpoints as rounds
from lender_api.transfers import endpoints as transfers
from lender_api.validation_sets import endpoints as validation_sets
from lender_api.withdrawals import endpoints as withdrawals
from lender_api.world import World

DESCRIPTION = """The lender's node: validation rows, models with their Paillier keys, the rounds that train them, the deployments that serve
them, and the wallet that pays.

Routes take `Authorization: Bearer <token>`. The admin token is the lender's own and opens all routes but those tagged `coordination` and
`borrowers`. The coordinator token belongs to the node's coordinator and opens `coordination`; what it calls is idempotent and re-reads the
chain at the final block before anything is done. Borrowers' own clients need no token: what they show is held against the chain.

Wei are decimal strings, `_bps` are basis points (10⁻⁴), errors are in billionths (10⁻⁹). Times that are integers are seconds since 1970 by
the chain's clock."""


def create_app(world: World) -> FastAPI:
    """Routes on `world`, which the caller opens and closes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"world": world, "database": world.database, "node_tokens": world.node_tokens}

    def ready(_: Request) -> Mapping[str, Callable[[], Awaitable[None]]]:
        async def chain() -> None:
            await world.chain.final_block()

        return {"database": world.database.ping, "chain": chain, "ipfs": world.store.check}

    return create_service(
        title="lender-api",
        description=DESCRIPTION,
        lifespan=lifespan,
        routers=[
            withdrawals.router,
            transfers.router,
            validation_sets.router,
            models.router,
            models.coordinator_router,
            rounds.router,
            deployments.router,
            requests.router,
            requests.coordinator_router,
            requests.public_router,
        ],
        ready=ready,
    )
