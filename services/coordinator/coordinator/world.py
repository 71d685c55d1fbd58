"""Everything the coordinator runs on, opened in one place and closed in reverse. Tests open the same world on their own neighbours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Request
from pydantic import HttpUrl

from coordinator.clients import answers, trainer
from coordinator.clients.lender import LenderClient
from coordinator.clients.owner import OwnerClient
from coordinator.clients.trainer import TrainerClient
from coordinator.dispatcher import Dispatcher
from coordinator.handlers import Handlers
from coordinator.jobs import Service
from coordinator.migration import require_head
from coordinator.progress.positions import take_in
from coordinator.settings import Settings
from coordinator.watcher import Watcher
from hessian.chain.client import Chain, open_chain
from hessian.chain.contracts import Contracts, bind_contracts
from hessian.identifiers import BlockNumber
from hessian.ipfs.kubo import open_store
from hessian.postgres.engine import Database, database_url, open_database
from hessian.service.client import ServiceClient
from hessian.service.tokens import NodeTokens
from hessian.settings import read_secret


@dataclass(frozen=True)
class World:
    """What the watcher, the dispatcher and the API share."""

    database: Database
    contracts: Contracts
    node_tokens: NodeTokens
    services: frozenset[Service]
    watcher: Watcher
    dispatcher: Dispatcher
    ready_lag_seconds: int

    @property
    def chain(self) -> Chain:
        """The node behind the contracts' bindings."""
        return self.contracts.repository.chain


@asynccontextmanager
async def open_world(settings: Settings) -> AsyncIterator[World]:
    """Open it all. Raises BadSettings, or Unavailable when the database or the chain does not answer or is not as expected."""
    token = read_secret(settings.coordinator_token_file)
    node_tokens = NodeTokens(admin=read_secret(settings.admin_token_file), coordinator=token)
    url = database_url(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(url))
        await require_head(database)
        async with database.begin() as session:
            await take_in(session)
        chain = await stack.enter_async_context(open_chain(settings))
        contracts = await bind_contracts(chain, settings)
        store = await stack.enter_async_context(open_store(settings))
        await store.check()

        def neighbour(name: str, url: HttpUrl, timeout: httpx.Timeout) -> ServiceClient:
            client = ServiceClient(name, str(url), token, timeout=timeout)
            stack.push_async_callback(client.close)
            return client

        handlers = Handlers(
            store,
            lender=LenderClient(neighbour("lender-api", settings.lender_url, answers.TIMEOUT)) if settings.lender_url else None,
            owner=OwnerClient(neighbour("owner-api", settings.owner_url, answers.TIMEOUT)) if settings.owner_url else None,
            trainer=TrainerClient(neighbour("trainer", settings.trainer_url, trainer.TIMEOUT)) if settings.trainer_url else None,
        )
        watcher = Watcher(
            database,
            contracts,
            settings.services,
            start=BlockNumber(settings.repository_block),
            range_limit=settings.range_limit,
            poll_seconds=settings.poll_seconds,
        )
        dispatcher = Dispatcher(database, url, handlers, concurrency=settings.concurrency, stalled_seconds=settings.stalled_seconds)
        yield World(database, contracts, node_tokens, settings.services, watcher, dispatcher, settings.ready_lag_seconds)


def _world(request: Request) -> World:
    world = request.state.world
    assert isinstance(world, World)  # noqa: S101  # what the lifespan put there
    return world


TheWorld = Annotated[World, Depends(_world)]
"""The world as a handler's argument."""
