"""A relay killed with SIGKILL at every boundary: after the restart there is exactly one effect on chain and one in the database."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from eth_account.signers.local import LocalAccount
from sqlalchemy import make_url

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.chain.binding import Call
from hessian.chain.client import connect
from hessian.chain.events import ModelCreated
from hessian.chain.repository import ModelRepository
from hessian.identifiers import Address, BlockNumber, Digest
from hessian.outbox.relay import Step
from hessian.testing import valid_terms

PROCESS = Path(__file__).with_name("relay_process.py")


class Scene:
    """One intent, a database, a chain, and the process between them."""

    def __init__(self, url: str, anvil: Anvil, repository: ModelRepository, first_block: BlockNumber) -> None:
        self.anvil, self.repository, self.first_block = anvil, repository, first_block
        self.account: LocalAccount = anvil.new_account()
        self._url = make_url(url)

    async def run(self, call: Call, kill_at: Step | None) -> int | None:
        """Start the process and wait for its end; its exit code."""
        options = {
            "database_url": self._url.render_as_string(hide_password=False),
            "rpc_url": self.anvil.url,
            "private_key": self.account.key.hex(),
            "kill_at": kill_at,
            "to": call.to,
            "data": call.data.hex(),
            "value": call.value,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROCESS), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(60):
            await process.communicate(json.dumps(options).encode())
        return process.returncode

    def ask(self, query: LiteralString) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
            return connection.execute(query).fetchall()

    def node_knows(self, transaction_hash: str) -> bool:
        return self.anvil.call("eth_getTransactionByHash", transaction_hash) is not None

    async def models(self) -> int:
        """How many models this account has created."""
        final = await self.repository.chain.final_block()
        events = await self.repository.events(self.first_block, final.number)
        return sum(isinstance(event, ModelCreated) and event.lender == Address(self.account.address) for event in events)


@pytest.fixture
async def scene(database_url: str, anvil: Anvil, repository_contract: Deployment) -> AsyncIterator[Scene]:
    async with connect(anvil.url) as chain:
        yield Scene(database_url, anvil, ModelRepository(chain, repository_contract.address), repository_contract.block)


BOUNDARIES = [  # where it is killed; what the row says then; whether the node has the bytes
    (Step.PREPARED, "pending", False),
    (Step.SIGNED, "signed", False),
    (Step.BROADCAST, "signed", True),
    (Step.CONCLUDED, "sent", True),
]


async def test_run__killed_at_every_boundary_and_started_again__one_effect(scene: Scene) -> None:
    terms = valid_terms((await scene.repository.chain.head_block()).timestamp)
    call = scene.repository.create_model(terms, Digest(b"m" * 32), Digest(b"w" * 32))
    hashes = set()
    for kill_at, expected, is_sent in BOUNDARIES:
        assert await scene.run(call, kill_at) == -signal.SIGKILL
        ((state, transaction_hash),) = scene.ask("select state, transaction_hash from outbox")
        assert state == expected
        assert scene.ask("select count(*) from effects") == [(0,)]
        if transaction_hash is not None:
            hashes.add(transaction_hash)
            assert scene.node_knows(transaction_hash) == is_sent

    assert await scene.run(call, None) == 0
    ((state, transaction_hash, nonce),) = scene.ask("select state, transaction_hash, nonce from outbox")
    assert (state, nonce) == ("final", 0)
    assert hashes == {transaction_hash}  # signed once, the same bytes every time
    assert scene.ask("select state from effects") == [("final",)]
    assert await scene.models() == 1
    assert scene.anvil.call("eth_getTransactionCount", scene.account.address, "latest") == "0x1"
