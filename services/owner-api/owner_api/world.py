"""Everything one owner's node runs on, opened in one place and closed in reverse. Tests open the same world on their own neighbours."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
from fastapi import Depends, Request

from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.scoring_model import ScoringModel
from hessian.chain.client import Chain, open_chain
from hessian.chain.contracts import bind_contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.identifiers import DeploymentId, Digest
from hessian.ipfs.kubo import open_store
from hessian.ipfs.store import ContentStore
from hessian.outbox.outbox import Outbox
from hessian.postgres.engine import Database, database_url, open_database
from hessian.postgres.vault import Vault, open_vault
from hessian.service.client import ServiceClient
from hessian.service.tokens import NodeTokens
from hessian.settings import read_secret
from hessian.uploads import UploadPlaces
from owner_api.datasets.storage import DatasetStorage
from owner_api.migration import require_head
from owner_api.owners.wallets import Wallets
from owner_api.settings import OwnerApiSettings
from owner_api.tables import Header, OutgoingTransaction

DATASET_FILES = "dataset files"


@dataclass(frozen=True)
class World:
    """What handlers and workers share."""

    settings: OwnerApiSettings
    database: Database
    node_tokens: NodeTokens
    chain: Chain
    repository: ModelRepository
    deployment: ModelDeployment
    store: ContentStore
    vault: Vault
    outbox: Outbox[OutgoingTransaction]
    wallets: Wallets
    datasets: DatasetStorage
    trainer: ServiceClient
    manifests: dict[Digest, ModelManifest] = field(default_factory=dict)
    """Verified manifests by digest: reading one and checking its key takes a while, and it never changes."""
    measured_percent: dict[uuid.UUID, int] = field(default_factory=dict)
    """Per enrolment that is being measured: how much of its file the trainer has read."""
    scoring_models: dict[DeploymentId, tuple[ScoringModel, bytes]] = field(default_factory=dict)
    """Verified scoring models and their bytes by deployment, which never changes."""
    uploads: UploadPlaces = field(default_factory=UploadPlaces)
    """Where uploaded tables are read."""
    to_enroll: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an enrolment may be able to move."""
    to_apply: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an application may be able to move."""

    def state(self) -> Mapping[str, Any]:
        """The lifespan state; `database` and `node_tokens` are what the chassis itself reads."""
        return {"world": self, "database": self.database, "node_tokens": self.node_tokens}


@asynccontextmanager
async def open_world(settings: OwnerApiSettings) -> AsyncIterator[World]:
    """Open it all. Raises BadSettings, KeyLost, or Unavailable when a neighbour does not answer."""
    tokens = {
        "admin": read_secret(settings.admin_token_file),
        "coordinator": read_secret(settings.coordinator_token_file),
        "trainer": read_secret(settings.trainer_token_file),
    }
    passphrase = read_secret(settings.passphrase_file)
    async with (
        open_database(database_url(settings)) as database,
        open_chain(settings) as chain,
        open_store(settings) as store,
    ):
        await require_head(database)
        await store.check()
        contracts = await bind_contracts(chain, settings)
        async with database.begin() as session:
            vault = await open_vault(session, Header, passphrase)
        trainer = ServiceClient(
            "trainer", str(settings.trainer_url), tokens["trainer"], timeout=httpx.Timeout(settings.trainer_seconds, connect=5.0)
        )
        try:
            yield World(
                settings=settings,
                database=database,
                node_tokens=NodeTokens(**tokens),
                chain=chain,
                repository=contracts.repository,
                deployment=contracts.deployment,
                store=store,
                vault=vault,
                outbox=Outbox(OutgoingTransaction),
                wallets=Wallets(database, passphrase, work=settings.keystore_work),
                datasets=DatasetStorage(settings.data_directory, vault.derive(DATASET_FILES)),
                trainer=trainer,
            )
        finally:
            await trainer.close()


def _world(request: Request) -> World:
    world = request.state.world
    assert isinstance(world, World)  # noqa: S101  # what the lifespan put there
    return world


TheWorld = Annotated[World, Depends(_world)]
"""The world as a handler's argument."""
