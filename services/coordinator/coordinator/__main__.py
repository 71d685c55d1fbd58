"""`python -m coordinator` serves; `python -m coordinator migrate` brings the schema to head. The composition root."""

from __future__ import annotations

import asyncio
import sys

from coordinator import metrics
from coordinator.app import create_app
from coordinator.migration import migrate
from coordinator.settings import Settings
from coordinator.world import open_world
from hessian.logging import configure_logging
from hessian.postgres.engine import database_url
from hessian.service.metrics import serve_metrics
from hessian.service.process import opened, require_listenable, run_service, serve
from hessian.settings import market_of
from hessian.tracing import start_tracing


async def main(stop: asyncio.Event) -> None:
    """Watcher, dispatcher and API live and die together."""
    settings = Settings()
    configure_logging("coordinator", level=settings.log_level, as_json=settings.log_json)
    start_tracing("coordinator", settings, market_of(settings))
    require_listenable(settings)  # the queue's worker does not end when it is cancelled while it starts
    async with opened(lambda: open_world(settings), stop, seconds=settings.start_seconds) as world, asyncio.TaskGroup() as tasks:
        tasks.create_task(world.watcher.run(stop), name="watcher")
        tasks.create_task(world.dispatcher.run(stop), name="dispatcher")
        tasks.create_task(serve(create_app(world, stop), settings, stop), name="api")
        tasks.create_task(serve_metrics(metrics.reads(world), settings, stop), name="metrics")


async def _migrate(_stop: asyncio.Event) -> None:
    settings = Settings()
    await asyncio.to_thread(migrate, database_url(settings))


if __name__ == "__main__":
    run_service("coordinator", _migrate if sys.argv[1:] == ["migrate"] else main)
