"""`python -m lender_api` serves; `python -m lender_api migrate` brings the schema to head and ends.

API, outbox relay and background worker live and die together: whichever ends takes the process with it.
"""

from __future__ import annotations

import asyncio
import sys

from hessian.logging import configure_logging
from hessian.outbox.relay import Relay
from hessian.postgres.engine import database_url
from hessian.service.process import run_service, serve
from lender_api.app import create_app
from lender_api.handlers import handlers
from lender_api.migration import migrate
from lender_api.settings import Settings
from lender_api.worker import run
from lender_api.world import open_world


async def _serve(stop: asyncio.Event) -> None:
    settings = Settings()
    configure_logging("lender-api", level=settings.log_level, as_json=settings.log_json)
    async with open_world(settings) as world, asyncio.TaskGroup() as tasks:
        relay = Relay(world.database, world.chain, world.outbox, world.keys.signer_of, handlers(world))
        tasks.create_task(relay.run(stop), name="relay")
        tasks.create_task(run(world, stop), name="worker")
        tasks.create_task(serve(create_app(world), settings, stop), name="api")


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
