"""An owner's wallet and token in other hands: ether sent out of the one, the other replaced by the administrator."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from owner_node import Lender, Owner, OwnerNode, bearer, eventually, run_owner_node
from small_model import Rows
from sqlalchemy import text, update
from structlog.testing import capture_logs

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.identifiers import Address, BlockNumber
from hessian.outbox.tables import TransactionState
from hessian.service import transfers
from hessian.service.transfers import FEE_RESERVE, TransferRead
from owner_api import tables
from owner_api.enrollments.joining import JOIN
from owner_api.promises import promised_by
from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment, OutgoingTransaction

ETHER = 10**18
Node = tuple[OwnerNode, Lender]
_WAITING = text("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")


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


async def test_enrolment__ether_promised_to_a_transfer__is_refused(idle: Node) -> None:
    node, lender = idle
    owner = await node.owner("leaving")
    model_id, _, _ = await lender.create_model(cohort_size=2)
    await node.announce(model_id)
    dataset, amount = await owner.upload(Rows(1, 60)), ETHER - 14 * 10**15
    assert (await transfer(owner, "0x" + secrets.token_hex(20), amount)).status_code == 202
    refused = await owner.enroll(model_id, dataset)
    assert (refused.status_code, refused.json()["title"]) == (409, "BalanceTooLow")
    assert f"holds {ETHER} wei, {amount} wei of it promised" in refused.json()["detail"]
    assert (await owner.get("/v1/enrollments"))["items"] == []


async def test_enrolment__while_a_transfer_is_decided__waits_and_counts_it(idle: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node, lender = idle
    owner, decided, go_on = await node.owner("hasty"), asyncio.Event(), asyncio.Event()
    model_id, _, _ = await lender.create_model(cohort_size=2)
    await node.announce(model_id)
    dataset, send = await owner.upload(Rows(1, 60)), transfers.send

    async def slow(*arguments: Any, **options: Any) -> TransferRead:
        sent = await send(*arguments, **options)
        decided.set()
        await go_on.wait()
        return sent

    monkeypatch.setattr(transfers, "send", slow)
    leaving = asyncio.create_task(transfer(owner, "0x" + secrets.token_hex(20), ETHER - 14 * 10**15))
    await decided.wait()
    enrolment = asyncio.create_task(owner.enroll(model_id, dataset))

    async def waits_or_ends() -> bool:
        async with node.world.database.begin() as session:
            return enrolment.done() or (await session.execute(_WAITING)).scalar_one() > 0

    await eventually(waits_or_ends, bool)
    go_on.set()
    refused = await enrolment
    assert ((await leaving).status_code, refused.status_code, refused.json()["title"]) == (202, 409, "BalanceTooLow")


async def test_promised__transactions_mined_after_the_balance_was_read__count_until_it_is_read_anew(idle: Node) -> None:
    node, lender = idle
    owner = await node.owner("promising")
    model_id, _, _ = await lender.create_model(cohort_size=2)
    await node.announce(model_id)
    enrollment = uuid.UUID(await owner.enrolled(model_id, await owner.upload(Rows(1, 60))))
    head = await node.world.chain.head_block()
    bond = (await node.world.repository.model(model_id, head)).terms.member_bond

    async def write(purpose: str, value: int, state: TransactionState, block: int | None, subject: object) -> None:
        async with node.world.database.begin() as session:
            row = {"sender": owner.address, "to": owner.address, "value": value, "data": b"", "purpose": purpose, "subject": str(subject)}
            session.add(OutgoingTransaction(business_key=secrets.token_hex(8), state=state, block_number=block, **row))

    async def promised(at: int) -> tuple[int, int]:
        async with node.world.database.begin() as session:
            known = await session.get_one(tables.Owner, uuid.UUID(owner.id))
            found = await promised_by(session, known, replace(head, number=BlockNumber(at)))
            assert (found.fees, found.total) == (0, found.bonds + found.leaving)
            return found.bonds, found.leaving

    async def joined(state: EnrollmentState, transaction: TransactionState, block: int | None) -> None:
        async with node.world.database.begin() as session:
            await session.execute(update(Enrollment).values(state=state))
            await session.execute(update(OutgoingTransaction).values(state=transaction, block_number=block))

    assert await promised(10) == (bond, 0)
    await write(JOIN, bond, TransactionState.PENDING, None, enrollment)
    await joined(EnrollmentState.JOINING, TransactionState.PENDING, None)
    assert await promised(10) == (bond, 0)
    await joined(EnrollmentState.JOINING, TransactionState.SENT, 11)
    assert [await promised(at) for at in (10, 11)] == [(bond, 0)] * 2  # until it is final it may turn out to be reverted
    await joined(EnrollmentState.WAITING, TransactionState.FINAL, 11)
    assert [await promised(at) for at in (10, 11)] == [(bond, 0), (0, 0)]
    for value, state, block in (
        (1, TransactionState.PENDING, None),
        (2, TransactionState.SENT, 11),
        (4, TransactionState.FINAL, 12),
        (8, TransactionState.FAILED, None),
        (16, TransactionState.FAILED, 12),
    ):
        await write(transfers.TRANSFER, value, state, block, uuid.uuid4())
    assert [await promised(at) for at in (10, 11, 12)] == [(bond, 7), (0, 5), (0, 1)]


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
