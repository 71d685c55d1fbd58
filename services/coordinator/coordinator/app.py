"""The coordinator's HTTP face: the read API, and when it counts as ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from coordinator import repository
from coordinator.endpoints import router
from coordinator.progress.endpoints import router as progress
from coordinator.progress.stream import Readers
from coordinator.world import World
from hessian.errors import ChainUnavailable
from hessian.service.app import ReadyCheck, create_service

DESCRIPTION = """Follows the final blocks of the training and the serving market and asks this node's services for the work they call for.

It holds public data only: no key, no rows, no statistics, no weights in clear.

Routes under `/v1` take `Authorization: Bearer <token>`: reading takes the admin or the coordinator token of the node, and
`POST /v1/jobs/{job_id}/retry` the admin token.

Wei are decimal strings, errors are in billionths (10⁻⁹). Times that are integers are seconds since 1970 by the chain's clock."""


def create_app(world: World, stopping: asyncio.Event | None = None) -> FastAPI:
    """The app over an open world; its streams end when it is `stopping`."""
    readers = Readers(stopping or asyncio.Event())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"world": world, "database": world.database, "node_tokens": world.node_tokens, "readers": readers}

    def ready(_request: Request) -> Mapping[str, ReadyCheck]:
        return {"database": world.database.ping, "chain": lambda: _chain(world), "cursor": lambda: _cursor(world)}

    return create_service(title="Hessian coordinator", description=DESCRIPTION, lifespan=lifespan, routers=[router, progress], ready=ready)


async def _chain(world: World) -> None:
    await world.chain.final_block()


async def _cursor(world: World) -> None:
    """Raises ChainUnavailable while the cursor is further behind the final block than it may be."""
    final = await world.chain.final_block()
    async with world.database.begin() as session:
        cursor = await repository.read_cursor(session)
    if cursor is None:
        raise ChainUnavailable("no block has been read yet")
    lag = final.timestamp - cursor.timestamp
    if lag > world.ready_lag_seconds:
        raise ChainUnavailable(f"block {cursor.block_number} is done, {lag} seconds behind the final block {final.number}")
