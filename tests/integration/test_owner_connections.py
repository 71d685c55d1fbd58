"""owner-api and its connections: whoever waits for chain or IPFS holds none, so that many requests at once cannot starve one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bare_lender import BareLender
from borrower import Borrower
from owner_node import OwnerNode, run_owner_node
from small_model import Rows
from sqlalchemy import QueuePool, delete

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.postgres.engine import POOL_SIZE
from hessian.service.fields import next_cursor
from owner_api.applications.endpoints import LOOKED_UP_AT_ONCE
from owner_api.tables import CatalogueModel

FEATURES: dict[str, Any] = {"income": 900.25, "age": 71, "region": "S"}
MORE_THAN_THE_POOL = 2 * POOL_SIZE + 4


@pytest.fixture(scope="module")
def lender(anvil: Anvil, repository_contract: Deployment, serving_contract: Deployment) -> BareLender:
    return BareLender(anvil, repository_contract, serving_contract)


@pytest.fixture
async def node(lender: BareLender, database_url: str, tmp_path: Path) -> AsyncIterator[OwnerNode]:
    addresses = lender.repository.address, lender.serving.address
    async with run_owner_node(lender.anvil, addresses[0], database_url, tmp_path, serving=addresses[1], work=False) as (here, _):
        await lender.publish(here.world.store)
        yield here


async def forget(node: OwnerNode) -> None:
    """As after a start on an empty catalogue."""
    async with node.world.database.begin() as session:
        await session.execute(delete(CatalogueModel))
    node.world.manifests.clear()
    node.world.scoring_models.clear()


def watched(
    node: OwnerNode, monkeypatch: pytest.MonkeyPatch, neighbour: object, name: str, see: Callable[[int], None], *, tell: bool = False
) -> None:
    """`see` is told of every call of a neighbour's method: how many connections are in use meanwhile, or how many calls are under way."""
    pool, asked = node.world.database.engine.sync_engine.pool, getattr(neighbour, name)
    assert isinstance(pool, QueuePool)
    calls = 0

    async def ask(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)  # the others get their turn
        see(calls if tell else pool.checkedout())
        try:
            return await _awaited(asked(*arguments))
        finally:
            calls -= 1

    monkeypatch.setattr(neighbour, name, ask)


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


@pytest.mark.parametrize("route", ["deployments", "application", "again", "enrollment", "earnings", "withdrawal", "transfer"])
async def test_route__waits_for_chain_and_ipfs__holds_no_connection(
    node: OwnerNode, lender: BareLender, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    borrower, deployment_id = await Borrower.at(node, lender), lender.deploy()
    account, key = borrower.account, {"Idempotency-Key": "an-idempotency-key"}
    dataset = await account.upload(Rows(1, 20)) if route == "enrollment" else ""
    application = await borrower.applied(deployment_id, FEATURES) if route == "again" else ""
    await forget(node)
    fetched, asked = list[int](), list[int]()
    watched(node, monkeypatch, node.world.store, "get", fetched.append)
    watched(node, monkeypatch, node.world.chain.node, "request", asked.append)
    match route:
        case "deployments":
            answer = await account.request("GET", f"/v1/deployments/{deployment_id}")
        case "application":
            answer = await borrower.ask(deployment_id, FEATURES)
        case "again":
            body = {"max_fee_wei": "1" + "0" * 18}
            answer = await account.request("POST", f"/v1/applications/{application}/requests", json=body, headers=key)
        case "enrollment":
            answer = await account.enroll(lender.model_id, dataset)
        case "earnings":
            answer = await account.request("GET", "/v1/earnings")
        case "transfer":
            answer = await account.request("POST", "/v1/transfers", json={"to": "0x" + 20 * "5c", "amount_wei": "1"}, headers=key)
        case _:
            answer = await account.request("POST", "/v1/withdrawals", headers=key)
    assert answer.status_code in (200, 202, 409), answer.text
    assert asked
    assert fetched or route in ("earnings", "withdrawal", "transfer")
    assert set(fetched + asked) == {0}


async def test_apply__more_at_once_than_there_are_connections__are_all_decided(node: OwnerNode, lender: BareLender) -> None:
    borrower, deployment_id = await Borrower.at(node, lender), lender.deploy()
    asks = (borrower.ask(deployment_id, FEATURES | {"income": 900 + one}, key=f"key-number-{one}") for one in range(MORE_THAN_THE_POOL))
    answers = await asyncio.gather(*asks)
    assert sorted({answer.status_code for answer in answers}) == [202, 409]


async def test_apply__the_same_key_again_while_ipfs_has_nothing__is_the_same_answer(
    node: OwnerNode, lender: BareLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower, deployment_id = await Borrower.at(node, lender), lender.deploy()
    first = await borrower.ask(deployment_id, FEATURES)
    await forget(node)
    fetched = list[int]()
    watched(node, monkeypatch, node.world.store, "get", fetched.append)
    again = await borrower.ask(deployment_id, FEATURES)
    other = await borrower.ask(deployment_id, FEATURES | {"income": 1})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert (other.status_code, other.json()["title"]) == (409, "IdempotencyKeyReused")
    assert not fetched


async def test_deployments__more_than_there_are_connections_and_none_known__are_listed_a_few_at_a_time(
    node: OwnerNode, lender: BareLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await Borrower.at(node, lender)
    last = [lender.deploy() for _ in range(MORE_THAN_THE_POOL)][-1]
    await forget(node)
    at_once = list[int]()
    watched(node, monkeypatch, node.world.store, "get", at_once.append, tell=True)
    page = await borrower.account.get(f"/v1/deployments?limit=50&after={next_cursor(last - MORE_THAN_THE_POOL)}")
    assert [item["problem"] for item in page["items"]] == [None] * MORE_THAN_THE_POOL
    assert 1 <= max(at_once) <= LOOKED_UP_AT_ONCE
