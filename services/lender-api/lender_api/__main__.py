"""`python -m lender_api` serves; `python -m lender_api migrate` brings the schema to head and ends.

API, outbox relay, background worker and pin audit live and die together: whichever ends takes the process with it.
"""

from __future__ import annotations

import asyncio
import sys

from hessian.ipfs.audit import keep_pinned
from hessian.logging import configure_logging
from hessian.outbox.relay import Relay
from hessian.postgres.engine import database_url
from hessian.service.metrics import serve_metrics
from hessian.service.process import opened, run_service, serve
from hessian.settings import market_of
from hessian.tracing import start_tracing
from lender_api import metrics
from lender_api.app import create_app
from lender_api.copies import Anchored
from lender_api.handlers import handlers
from lender_api.migration import migrate
from lender_api.settings import Settings
from lender_api.worker import run
from lender_api.world import open_world


async def _serve(stop: asyncio.Event) -> None:
    settings = Settings()
    configure_logging("lender-api", level=settings.log_level, as_json=settings.log_json)
    start_tracing("lender-api", settings, market_of(settings))
    async with opened(lambda: open_world(settings), stop, seconds=settings.start_seconds) as world, asyncio.TaskGroup() as tasks:
        relay = Relay(world.database, world.chain, world.outbox, world.keys.signer_of, handlers(world))
        tasks.create_task(relay.run(stop), name="relay")
        tasks.create_task(keep_pinned(world.store, Anchored(world.database), stop), name="pin audit")
        tasks.create_task(run(world, stop), name="worker")
        tasks.create_task(serve(create_app(world), settings, stop), name="api")
        tasks.create_task(serve_metrics(metrics.reads(world), settings, stop), name="metrics")


async def _migrate(_: asyncio.Event) -> None:
    url = database_url(Settings())
    await asyncio.to_thread(migrate, url)


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case []:
            run_service("lender-api", _serve)
        case ["migrate"]:
            run_service("lender-api", _migrate)
        case _:
            sys.exit("usage: python -m lender_api [migrate]")


if __name__ == "__main__":
    main()
