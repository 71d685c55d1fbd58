"""Takes applications from `preparing` to the outbox. The rows are the queue: after a crash the next start goes on where they stand."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select

from hessian.errors import DatabaseUnavailable, Refused, Unavailable
from owner_api.applications.preparing import prepare
from owner_api.states import ApplicationState
from owner_api.tables import Application
from owner_api.waiting import first_of
from owner_api.world import World

log = structlog.get_logger()
MOST_AT_ONCE = 8
LARGEST_BACKOFF = 60.0


async def run(world: World, stop: asyncio.Event) -> None:
    """Until `stop`. What Unavailable breaks is tried again with backoff; anything else ends the worker, and with it the process."""
    moving: dict[uuid.UUID, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            world.to_apply.clear()
            moving = {application: task for application, task in moving.items() if not task.done()}
            for application in await _due(world, MOST_AT_ONCE - len(moving), moving):
                moving[application] = tasks.create_task(_advance(world, application), name=f"application {application}")
            await first_of(stop, world.to_apply, seconds=world.settings.application_poll_seconds)
        for task in moving.values():
            task.cancel()


async def _due(world: World, free: int, moving: dict[uuid.UUID, asyncio.Task[None]]) -> list[uuid.UUID]:
    wanted = select(Application.id).where(
        Application.state == ApplicationState.PREPARING, Application.next_try_at <= func.now(), Application.id.not_in(moving.keys())
    )
    try:
        async with world.database.begin() as session:
            return list((await session.execute(wanted.order_by(Application.next_try_at).limit(free))).scalars())
    except DatabaseUnavailable as error:
        log.warning("applications_wait", reason=error.sentence)
        return []


async def _advance(world: World, application_id: uuid.UUID) -> None:
    """Prepare one application, or note why that has to wait, or that it cannot be."""
    try:
        await prepare(world, application_id)
    except (Unavailable, Refused) as error:
        log.warning("application_waits", application_id=str(application_id), reason=error.sentence)
        try:
            await _note(world, application_id, error)
        except DatabaseUnavailable:
            await asyncio.sleep(world.settings.application_poll_seconds)
    world.to_apply.set()  # there is room for another


async def _note(world: World, application_id: uuid.UUID, error: Unavailable | Refused) -> None:
    async with world.database.begin() as session:
        application = await session.get_one(Application, application_id, with_for_update=True)
        if application.state != ApplicationState.PREPARING:
            return
        if isinstance(error, Refused):
            application.move_to(ApplicationState.FAILED, error.sentence)
            return
        application.reason = error.sentence
        application.tries += 1
        seconds = min(LARGEST_BACKOFF, 2.0 ** min(application.tries, 10) / 2)
        application.next_try_at = datetime.now(UTC) + timedelta(seconds=seconds)
