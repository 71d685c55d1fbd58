"""`python -m owner_api` serves; `python -m owner_api migrate` brings the schema to head and ends, and
`python -m owner_api rotate-passphrase <file>` puts the keys under the passphrase in that file and ends.

API, outbox relay, the workers of enrolments and applications, and the pin audit live and die together: whichever ends takes the process
with it.
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
from owner_api import metrics
from owner_api.app import create_app
from owner_api.applications import worker as applying
from owner_api.copies import Anchored
from owner_api.datasets.service import sweep
from owner_api.enrollments import worker
from owner_api.handlers import handlers
from owner_api.migration import migrate, require_head
from owner_api.owners.wallets import rewrap_wallets
from owner_api.settings import OwnerApiSettings
from owner_api.tables import Header
from owner_api.world import open_world


async def _serve(stop: asyncio.Event) -> None:
    settings = OwnerApiSettings()
    configure_logging("owner-api", level=settings.log_level, as_json=settings.log_json)
    start_tracing("owner-api", settings, market_of(settings))
    async with opened(lambda: open_world(settings), stop, seconds=settings.start_seconds) as world:
        await sweep(world.database, world.datasets)
        relay = Relay(world.database, world.chain, world.outbox, world.wallets.signer_of, handlers(world))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay.run(stop), name="relay")
            tasks.create_task(keep_pinned(world.store, Anchored(world.database), stop), name="pin audit")
            tasks.create_task(worker.run(world, stop), name="enrolments")
            tasks.create_task(applying.run(world, stop), name="applications")
            tasks.create_task(serve(create_app(world), settings, stop), name="api")
            tasks.create_task(serve_metrics(metrics.reads(world), settings, stop), name="metrics")


async def _migrate(_: asyncio.Event) -> None:
    url = database_url(OwnerApiSettings())
    await asyncio.to_thread(migrate, url)


async def _rotate(file: Path, _: asyncio.Event) -> None:
    settings = OwnerApiSettings()
    old, new = read_secret(settings.passphrase_file), read_secret(file)
    print(
        await rotate_passphrase(
            database_url(settings), Header, old, new, require_head=require_head, also=partial(rewrap_wallets, work=settings.keystore_work)
        )
    )


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case []:
            run_service("owner-api", _serve)
        case ["migrate"]:
            run_service("owner-api", _migrate)
        case ["rotate-passphrase", file]:
            run_service("owner-api", partial(_rotate, Path(file)))
        case _:
            sys.exit("usage: python -m owner_api [migrate | rotate-passphrase <file with the new passphrase>]")


if __name__ == "__main__":
    main()
