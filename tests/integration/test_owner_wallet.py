"""An owner's wallet and token in other hands: ether sent out of the one, the other replaced by the administrator."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from owner_node import Lender, Owner, OwnerNode, bearer, eventually, run_owner_node
from small_model import Rows
from structlog.testing import capture_logs

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.identifiers import Address
from hessian.service.transfers import FEE_RESERVE

ETHER = 10**18
Node = tuple[OwnerNode, Lender]


@pytest.fixture
async def idle(anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path) -> AsyncIterator[Node]:
    """Nothing is measured and nothing leaves."""
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path, work=False) as node:
        yield node


async def transfer(owner: Owner, to: str, amount: int, key: str | None = None) -> httpx.Response:
    body, headers = {"to": to, "amount_wei": str(amount)}, {"Idempotency-Key": key or secrets.token_hex(8)}
    return await owner.request("POST", "/v1/transfers", json=body, headers=headers)


async def test_transfer__owners_own_ether__arrives_and_is_seen_by_its_owner_alone(
    anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path
) -> None:
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path, processes=1) as (node, _):
        owner, other = await node.owner("sender"), await node.owner("other")
        to, amount = "0x" + secrets.token_hex(20), ETHER // 3
        answers = [await transfer(owner, to, amount, "once-only") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()
        path = f"/v1/transfers/{answers[0].json()['id']}"
        shown: Any = await eventually(lambda: owner.get(path), lambda found: found["state"] in ("final", "failed"))
        assert (shown["state"], shown["amount_wei"]) == ("final", str(amount))
        assert await node.world.chain.balance(Address(to), await node.world.chain.final_block()) == amount
        assert (await other.request("GET", path)).status_code == 404
        assert (await other.get("/v1/transfers"))["items"] == []
        assert (await owner.get("/v1/transfers"))["items"] == [shown]


async def test_transfer__enrolment_waits_for_its_bond__bond_and_gas_stay(idle: Node) -> None:
    node, lender = idle
    owner = await node.owner("member")
    model_id, _, _ = await lender.create_model(cohort_size=2)
    await node.announce(model_id)
    await owner.enrolled(model_id, await owner.upload(Rows(1, 60)))
    bond = (await node.world.repository.model(model_id, await node.world.chain.head_block())).terms.member_bond
    assert bond > 0
    free = ETHER - bond - node.world.settings.gas_reserve_wei - FEE_RESERVE
    to = "0x" + secrets.token_hex(20)
    refused = await transfer(owner, to, free + 1)
    assert (refused.status_code, refused.json()["title"]) == (409, "NotFree")
    assert f"{free} wei can be sent" in refused.json()["detail"]
    both = await asyncio.gather(transfer(owner, to, free), transfer(owner, to, free))
    assert sorted(answer.status_code for answer in both) == [202, 409]


async def test_replace_token__lost__the_new_one_opens_and_the_old_one_is_refused_at_once(idle: Node) -> None:
    node, _ = idle
    owner, other = await node.owner("forgetful"), await node.owner("other")
    with capture_logs() as logs:
        answer = await node.api.post(f"/v1/owners/{owner.id}/token", headers=bearer("admin-token"))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["id"], made["address"]) == (owner.id, owner.address)
    assert made["token"] not in (owner.token, other.token)
    (line,) = [line for line in logs if line["event"] == "owner_token_replaced"]
    assert line["owner_id"] == owner.id
    assert made["token"] not in str(logs)
    assert (await owner.request("GET", "/v1/owners/me")).status_code == 401
    owner.token = made["token"]
    assert (await owner.get("/v1/owners/me"))["id"] == owner.id
    assert (await other.get("/v1/owners/me"))["id"] == other.id
    for token in (owner.token, other.token, "coordinator-token"):
        assert (await node.api.post(f"/v1/owners/{owner.id}/token", headers=bearer(token))).status_code in (401, 403)
    unknown = await node.api.post(f"/v1/owners/{uuid.uuid4()}/token", headers=bearer("admin-token"))
    assert (unknown.status_code, unknown.json()["title"]) == (404, "OwnerUnknown")
    assert (await owner.get("/v1/owners/me"))["id"] == owner.id
