"""The background worker: takes every model and every deployment that is not on chain yet as far as it goes."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable

import structlog

from hessian.errors import Unavailable
from hessian.postgres.session import Session
from lender_api.deployments import preparation as deployments
from lender_api.models import preparation as models
from lender_api.world import World

log = structlog.get_logger()

IDLE_SECONDS = 5.0
SHORTEST_BACKOFF, LARGEST_BACKOFF = 0.25, 8.0

_Unfinished = Callable[[Session], Awaitable[list[uuid.UUID]]]
_Advance = Callable[[World, uuid.UUID], Awaitable[None]]
_ROOMS: tuple[tuple[_Unfinished, _Advance], ...] = (
    (models.unfinished, models.advance),
    (deployments.unfinished, deployments.advance),
)


async def run(world: World, stop: asyncio.Event) -> None:
    """Until `stop`. What is unavailable is tried again; anything else ends the process."""
    working = asyncio.create_task(_work(world), name="work")
    stopping = asyncio.create_task(stop.wait(), name="work's end")
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    working.cancel()  # in the middle of a step, as a kill might: the next start resumes it
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _work(world: World) -> None:
    backoff = SHORTEST_BACKOFF
    while True:
        world.to_prepare.clear()
        reasons = [reason for unfinished, advance in _ROOMS for reason in await _pass(world, unfinished, advance)]
        if reasons:
            backoff = min(LARGEST_BACKOFF, 2 * backoff)
            log.warning("preparation_waits", reasons=reasons, seconds=backoff)
        else:
            backoff = SHORTEST_BACKOFF
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(backoff if reasons else IDLE_SECONDS):
                await world.to_prepare.wait()


async def _pass(world: World, unfinished: _Unfinished, advance: _Advance) -> list[str]:
    """One look at everything unfinished of one kind; what stopped what could not go on now."""
    reasons = []
    try:
        async with world.database.begin() as session:
            waiting = await unfinished(session)
    except Unavailable as error:
        return [error.sentence]
    for identity in waiting:
        try:
            await advance(world, identity)
        except Unavailable as error:
            reasons.append(error.sentence)
    return reasons
