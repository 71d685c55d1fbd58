"""Ether out of the lender's wallet: exact to the wei, once per key, never what escrows and gas still need."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from lender_node import LenderNode, eventually, lender_settings, loans, running_lender
from sqlalchemy import QueuePool, update

from devstack.anvil import POCKET_MONEY, Anvil
from devstack.contracts import Deployment
from hessian.identifiers import Address, BlockNumber, Wei
from hessian.outbox.tables import TransactionState
from hessian.service.transfers import FEE_RESERVE
from hessian.settings import DatabaseSettings
from lender_api.models.service import CREATE, GAS_RESERVE, promised
from lender_api.models.states import ModelState
from lender_api.settings import Settings
from lender_api.tables import Model, Outbox

ELSEWHERE = "0x8ba1f109551bD432803012645Ac136ddd64DBA72"


@pytest.fixture
def settings(
    tmp_path: Path,
    database_settings: DatabaseSettings,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> Settings:
    return lender_settings(tmp_path, database_settings, anvil, repository_contract, serving_contract, block_store)


def fresh_account() -> str:
    return "0x" + secrets.token_hex(20)


async def transfer(node: LenderNode, to: str, amount: object, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key or secrets.token_hex(8)}
    return await node.admin.post("/v1/transfers", json={"to": to, "amount_wei": amount}, headers=headers)


async def balance(node: LenderNode, account: str) -> int:
    return await node.world.chain.balance(Address(account), await node.world.chain.final_block())


async def test_transfer__free_ether__arrives_to_the_wei_and_once_per_key(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil) as node:
        to, amount = fresh_account(), 3 * 10**18 + 1
        first, again = [(await transfer(node, to, str(amount), "one-transfer")).json() for _ in range(2)]
        assert first == again
        reused = await transfer(node, to, str(amount + 1), "one-transfer")
        assert (reused.status_code, reused.json()["title"]) == (409, "IdempotencyKeyReused")
        shown: dict[str, Any] = {}

        async def final() -> bool:
            shown.update((await node.admin.get(f"/v1/transfers/{first['id']}")).json())
            return bool(shown["state"] == "final")

        await eventually(final)
        assert (shown["to"].lower(), shown["amount_wei"], shown["reason"]) == (to, str(amount), None)
        assert await balance(node, to) == amount
        fee = POCKET_MONEY - amount - await balance(node, node.world.keys.address)
        assert 0 < fee < FEE_RESERVE
        assert (await node.admin.get("/v1/transfers")).json() == {"items": [shown], "next": None}
        assert (await node.coordinator.get("/v1/transfers")).status_code == 403
        assert (await node.admin.get("/v1/transfers/0b0c4a52-4c2e-4d5b-9d4b-0f9d3b6f5a11")).json()["title"] == "TransferUnknown"


async def test_transfer__recipient_or_amount_wrong__is_refused_and_nothing_is_sent(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil, workers=False) as node:
        own, contract = node.world.keys.address, node.world.repository.address
        cases = {
            "0x" + 40 * "0": "nobody's account",
            "0x" + 39 * "0" + "4": "nobody's account",
            own: "this wallet itself",
            contract: "is a contract",
            contract.lower(): "is a contract",
            ELSEWHERE.replace("bD", "Bd"): "misspelt",
        }
        for to, sentence in cases.items():
            answer = await transfer(node, to, "1")
            assert (answer.status_code, answer.json()["title"]) == (422, "RecipientRefused"), to
            assert sentence in answer.json()["detail"]
        for amount in ("0", "-1", "1.5", "1e18", 1, "", str(2**256)):
            assert (await transfer(node, ELSEWHERE, amount)).status_code == 422, amount
        assert (await transfer(node, "0x12", "1")).status_code == 422
        assert (await node.admin.post("/v1/transfers", json={"to": ELSEWHERE, "amount_wei": "1"})).status_code == 422  # no key
        free = POCKET_MONEY - FEE_RESERVE
        beyond = await transfer(node, ELSEWHERE, str(free + 1))
        assert (beyond.status_code, beyond.json()["title"]) == (409, "NotFree")
        assert f"{free} wei can be sent" in beyond.json()["detail"]
        assert (await node.admin.get("/v1/transfers")).json()["items"] == []


async def test_transfer__others_at_once_and_a_model_on_its_way__never_promises_ether_twice(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil, workers=False) as node:
        body = await node.wish((await node.upload(loans(200, seed=1))).json()["id"])
        model = await node.post_model(body)
        assert model.status_code == 202, model.text
        escrow = int(body["terms"]["bounty_wei"]) + 4 * int(body["terms"]["base_fee_wei"])
        free = POCKET_MONEY - escrow - GAS_RESERVE - FEE_RESERVE
        part = free * 3 // 5
        codes = [answer.status_code for answer in await asyncio.gather(*(transfer(node, ELSEWHERE, str(part)) for _ in range(3)))]
        assert sorted(codes) == [202, 409, 409]
        assert (await transfer(node, ELSEWHERE, str(free - part + 1))).status_code == 409
        assert (await transfer(node, ELSEWHERE, str(free - part))).status_code == 202
        second = await node.post_model(await node.wish(body["validation_set_id"]))
        assert (second.status_code, second.json()["title"]) == (409, "BalanceTooLow")


async def test_transfer__waits_for_the_chain__holds_no_connection_and_asks_nothing_for_a_known_answer(
    settings: Settings, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_lender(settings, anvil, workers=False) as node:
        pool, chain = node.world.database.engine.sync_engine.pool, node.world.chain.node
        assert isinstance(pool, QueuePool)
        request, in_use = chain.request, list[int]()

        async def watched(method: str, *arguments: Any) -> Any:
            in_use.append(pool.checkedout())
            return await request(method, *arguments)

        monkeypatch.setattr(chain, "request", watched)
        first = await transfer(node, ELSEWHERE, "1", "a-known-key")
        assert first.status_code == 202, first.text
        assert set(in_use) == {0}
        in_use.clear()
        again = await transfer(node, ELSEWHERE, "1", "a-known-key")
        assert (again.json(), in_use) == (first.json(), [])


async def test_promised__creation_mined_after_the_balance_was_read__counts_until_it_is_read_anew(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil, workers=False) as node:
        model = await node.post_model(await node.wish((await node.upload(loans(200, seed=1))).json()["id"]))
        assert model.status_code == 202, model.text
        wallet, head = node.world.keys.address, await node.world.chain.head_block()

        async def leaving(at: int) -> int:
            async with node.world.database.begin() as session:
                return await promised(session, wallet, replace(head, number=BlockNumber(at)))

        async def now(model_state: ModelState, state: TransactionState, block: int | None) -> None:
            async with node.world.database.begin() as session:
                await session.execute(update(Model).values(state=model_state.value))
                await session.execute(update(Outbox).values(state=state, block_number=block))

        escrow = await leaving(10)
        assert escrow > 0
        async with node.world.database.begin() as session:
            row = {"sender": wallet, "to": wallet, "value": Wei(escrow), "data": b"", "purpose": CREATE, "subject": model.json()["id"]}
            session.add(Outbox(business_key="create", state=TransactionState.PENDING, **row))
        for model_state, state, block, expected in (
            (ModelState.CREATING, TransactionState.PENDING, None, [escrow, escrow]),
            (ModelState.CREATING, TransactionState.SENT, 11, [escrow, 0]),
            (ModelState.OPEN, TransactionState.FINAL, 11, [escrow, 0]),
            (ModelState.FAILED, TransactionState.FAILED, None, [0, 0]),
        ):
            await now(model_state, state, block)
            assert [await leaving(at) for at in (10, 11)] == expected
