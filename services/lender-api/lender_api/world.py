"""Everything one lender's node runs on, opened in one place and closed in reverse. Tests open the same world on their own neighbours."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from weakref import WeakValueDictionary

from fastapi import Depends, Request

from hessian.chain.client import Chain, open_chain
from hessian.chain.contracts import bind_contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.identifiers import BlockNumber, ModelId, RequestId
from hessian.ipfs.kubo import open_store
from hessian.ipfs.store import ContentStore
from hessian.outbox.outbox import Outbox
from hessian.postgres.engine import Database, database_url, open_database
from hessian.service.tokens import NodeTokens
from hessian.settings import read_secret
from hessian.uploads import UploadPlaces
from lender_api import tables
from lender_api.keys import Keys, open_keys
from lender_api.migration import require_head
from lender_api.requests.lookups import Lookups
from lender_api.rounds.settlements import Settlements
from lender_api.settings import Settings

if TYPE_CHECKING:
    from lender_api.requests.served import Served


@dataclass(frozen=True)
class World:
    """What handlers and workers share."""

    database: Database
    chain: Chain
    repository: ModelRepository
    deployment: ModelDeployment
    store: ContentStore
    keys: Keys
    outbox: Outbox[tables.Outbox]
    node_tokens: NodeTokens
    minimum_key_bits: int
    first_block: BlockNumber
    """Nothing on chain that is ours is older."""
    to_prepare: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a model or a deployment was committed that the worker has to take on."""
    uploads: UploadPlaces = field(default_factory=lambda: UploadPlaces(at_once=1))
    """Where validation rows are read: whole in memory, so one table after the other."""
    lookups: Lookups = field(default_factory=Lookups)
    openings: WeakValueDictionary[RequestId, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """One opening of a request is judged at a time: what the first came to is known to the next."""
    settlements: dict[ModelId, Settlements] = field(default_factory=dict, repr=False)
    """What the chain was found to tell of models whose settled rounds were not all known here."""
    served: dict[uuid.UUID, Served] = field(default_factory=dict, repr=False)
    """What answering needs of a deployment: it never changes, and reading it takes longer than an answer."""


@asynccontextmanager
async def open_world(settings: Settings) -> AsyncIterator[World]:
    """Open it all. Raises BadSettings, KeyLost, or Unavailable when a neighbour does not answer."""
    tokens = NodeTokens(
        admin=read_secret(settings.admin_token_file),
        coordinator=read_secret(settings.coordinator_token_file),
        trainer=read_secret(settings.trainer_token_file),
    )
    passphrase = read_secret(settings.passphrase_file)
    async with (
        open_database(database_url(settings)) as database,
        open_chain(settings) as chain,
        open_store(settings) as store,
    ):
        contracts = await bind_contracts(chain, settings)
        await require_head(database)
        await store.check()
        async with database.begin() as session:
            keys = await open_keys(session, passphrase)
        yield World(
            database=database,
            chain=chain,
            repository=contracts.repository,
            deployment=contracts.deployment,
            store=store,
            keys=keys,
            outbox=Outbox(tables.Outbox),
            node_tokens=tokens,
            minimum_key_bits=settings.minimum_key_bits,
            first_block=BlockNumber(settings.repository_block),
        )


def _world(request: Request) -> World:
    world = request.state.world
    assert isinstance(world, World)  # noqa: S101  # what the lifespan put there
    return world


TheWorld = Annotated[World, Depends(_world)]
"""The world as a handler's argument."""
