"""`python -m lender_api` serves; `python -m lender_api migrate` brings the schema to head and ends, and
`python -m lender_api rotate-passphrase <file>` puts the keys under the passphrase in that file and ends.

API, outbox relay, background worker and pin audit live and die together: whichever ends takes the process with it.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from hessian.ipfs.audit import keep_pinned
from hessian.logging import configure_logging
from hessian.outbox.relay import Relay
from hessian.postgres.engine import database_url
from hessian.postgres.rotation import rotate_passphrase
from hessian.service.metrics import serve_metrics
from hessian.service.process import opened, run_service, serve
from hessian.settings import market_of, read_secret
from hessian.tracing import start_tracing
from lender_api import metrics
from lender_api.app import create_app
from lender_api.copies import Anchored
from lender_api.handlers import handlers
from lender_api.migration import migrate, require_head
from lender_api.rounds.recovery import catch_up_all
from lender_api.settings import Settings
from lender_api.tables import VaultHeader
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
        tasks.create_task(catch_up_all(world, stop), name="recovery")
        tasks.create_task(run(world, stop), name="worker")
        tasks.create_task(serve(create_app(world), settings, stop), name="api")
        tasks.create_task(serve_metrics(metrics.reads(world), settings, stop), name="metrics")


async def _migrate(_: asyncio.Event) -> None:
    url = database_url(Settings())
    await asyncio.to_thread(migrate, url)


async def _rotate(file: Path, _: asyncio.Event) -> None:
    settings = Settings()
    old, new = read_secret(settings.passphrase_file), read_secret(file)
    print(await rotate_passphrase(database_url(settings), VaultHeader, old, new, require_head=require_head))


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case []:
            run_service("lender-api", _serve)
        case ["migrate"]:
            run_service("lender-api", _migrate)
        case ["rotate-passphrase", file]:
            run_service("lender-api", partial(_rotate, Path(file)))
        case _:
            sys.exit("usage: python -m lender_api [migrate | rotate-passphrase <file with the new passphrase>]")


if __name__ == "__main__":
    main()
