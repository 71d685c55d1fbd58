"""A borrower applies through its node against the real contracts and the real trainer: from the form to the opening of a quote."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bare_lender import FEE, BareLender
from borrower import Borrower
from owner_node import OwnerNode, bearer, run_owner_node
from small_model import private_key
from small_serving import plain_score
from sqlalchemy import select

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.application import OpenApplication, Opening
from hessian.errors import IpfsUnavailable
from hessian.identifiers import DeploymentId, digest_from_hex
from hessian.ipfs.audit import audit
from hessian.ipfs.cid import cid_of
from owner_api.copies import Anchored
from owner_api.tables import Application, OutgoingTransaction

FEATURES: dict[str, Any] = {"income": 900.25, "age": 71, "region": "S"}
CANONICAL = {"income": "900.25", "age": "71", "region": "S"}
RISKY: dict[str, Any] = {"income": 9999, "age": 20, "region": "Elsewhere"}


@pytest.fixture(scope="module")
def lender(anvil: Anvil, repository_contract: Deployment, serving_contract: Deployment) -> BareLender:
    return BareLender(anvil, repository_contract, serving_contract)


@pytest.fixture
async def node(lender: BareLender, database_url: str, tmp_path: Path) -> AsyncIterator[OwnerNode]:
    addresses = lender.repository.address, lender.serving.address
    async with run_owner_node(lender.anvil, addresses[0], database_url, tmp_path, serving=addresses[1], processes=1) as (here, _):
        await lender.publish(here.world.store)
        yield here


async def test_application__private__is_quoted_as_in_plaintext_and_opens_to_the_lender(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    application = await borrower.waiting(lender.deploy(), FEATURES)
    query, score = lender.opened(await borrower.query(application))
    assert score == plain_score(lender.manifest, CANONICAL)
    await borrower.answered(application)
    quoted = await borrower.concluded(application)
    expected = lender.decision(CANONICAL)
    assert (quoted["state"], quoted["reason"]) == ("quoted", None)
    assert quoted["quote"]["decision"] == ("approve" if expected.approved else "decline")
    assert [quoted["quote"][name] for name in ("band", "pd_bps", "rate_bps")] == [expected.band, expected.pd_bps, expected.rate_bps]
    assert [one["purpose"] for one in quoted["transactions"]] == ["request-score"]
    assert await borrower.asked(f"/v1/requests/{quoted['request_id']}/conclusion") == ["done"]

    path = f"/v1/applications/{quoted['id']}/acceptance"
    accepted, again = [(await borrower.account.request("POST", path)).json() for _ in range(2)]
    assert accepted == again
    assert (await borrower.account.get(f"/v1/applications/{quoted['id']}"))["state"] == "accepted"
    opening = Opening(accepted["opening"]["features"], _octets(accepted["opening"]["salt"]), int(accepted["opening"]["blinding"], 16))
    assert (accepted["request_id"], accepted["opening"]["query_digest"]) == (quoted["request_id"], quoted["query_digest"])
    assert opening.commitment(lender.manifest.public_key) == query.commitment
    ciphertext = query.check_against(lender.market, query.deployment_id, lender.scoring.digest, lender.manifest.public_key)
    assert private_key().opens_blinded(ciphertext, score, opening.blinding, lender.scoring.scale.blinding_bits)
    assert (await borrower.account.get("/v1/earnings"))["fees_credit_wei"] == "0"


async def test_application__open__anchors_only_a_digest_and_gives_its_client_the_rest(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    deployment_id, known = lender.deploy(), set(node.world.store.blocks)  # type: ignore[attr-defined]
    application = await borrower.waiting(deployment_id, RISKY, mode="open")
    assert set(node.world.store.blocks) == known  # type: ignore[attr-defined]
    shown = await borrower.account.get(f"/v1/applications/{application['id']}/open-application")
    fields = shown["application"]
    rebuilt = OpenApplication(
        lender.market, DeploymentId(deployment_id), fields["features"], _octets(fields["salt"]), _octets(fields["borrower_key"])
    )
    assert shown["request_id"] == application["request_id"]
    assert rebuilt.digest == digest_from_hex(application["query_digest"]) == lender.read("request", shown["request_id"])["queryDigest"]
    async with node.world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
    assert (row.query, row.sealed_blinding) == (None, None)
    answer = lender.answer_open(shown["request_id"], rebuilt, reasons=("Income is high for this product",))
    await borrower.answered(application, answer)
    quoted = await borrower.concluded(application)
    assert (quoted["quote"]["decision"], quoted["quote"]["reasons"]) == ("decline", ["Income is high for this product"])
    refused = await borrower.account.request("POST", f"/v1/applications/{application['id']}/acceptance")
    assert (refused.status_code, refused.json()["title"]) == (409, "NothingToAccept")


async def test_features__of_private_applications__are_in_no_answer_row_log_line_block_or_transaction(
    node: OwnerNode, lender: BareLender, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = {"income": 7351.975317, "age": 64.25, "region": "canary-region-name"}
    borrower, stranger = await Borrower.at(node, lender), await Borrower.at(node, lender, "stranger")
    application = await borrower.quoted(lender.deploy(), canary)
    wrong = await borrower.ask(lender.deploy(), canary | {"age": 999.125, "canary-field": 1}, key="wrong-key")
    answers = [wrong.text, json.dumps(application), (await stranger.account.request("GET", "/v1/applications")).text]
    answers += [
        (await node.api.get(path, headers=bearer("admin-token"))).text for path in ("/v1/deployments", "/v1/owners", "/openapi.json")
    ]
    assert (await stranger.account.request("GET", f"/v1/applications/{application['id']}")).status_code == 404
    blocks: list[bytes] = list(node.world.store.blocks.values())  # type: ignore[attr-defined]
    async with node.world.database.begin() as session:
        rows = [str(vars(row)) for table in (Application, OutgoingTransaction) for row in (await session.execute(select(table))).scalars()]
        raw = [row.raw or b"" for row in (await session.execute(select(OutgoingTransaction))).scalars()]
    head = lender.anvil.call("eth_blockNumber")
    logs = json.dumps(lender.anvil.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": head, "address": lender.serving.address}))
    printed = "".join(capfd.readouterr())
    for needle in ("7351.975", "64.25", "999.125", "canary-region"):
        assert [text[:200] for text in (*answers, *rows, logs, printed) if needle in text] == []
        assert [data[:40] for data in (*blocks, *raw) if needle.encode() in data] == []
    assert "canary-field" not in printed
    assert len(blocks) >= 4
    assert printed


async def test_features__erased_after_the_end__leave_the_history_and_the_limit_and_no_query(
    node: OwnerNode, lender: BareLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await Borrower.at(node, lender)
    deployment_id = lender.deploy()
    application = await borrower.waiting(deployment_id, FEATURES)
    path = f"/v1/applications/{application['id']}"
    early = await borrower.account.request("DELETE", f"{path}/features")
    assert (early.status_code, early.json()["title"]) == (409, "ApplicationUnderWay")
    await borrower.answered(application)
    quoted = await borrower.concluded(application)
    query, store = digest_from_hex(quoted["query_digest"]), node.world.store
    await store.unpin(query)
    assert (await audit(store, Anchored(node.world.database))).restored == 1
    assert await store.is_pinned(query)

    async def broken(_: str) -> None:
        raise IpfsUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(store, "_unpin", broken)
        assert (await borrower.account.request("DELETE", f"{path}/features")).status_code == 503
    for _ in range(2):
        assert (await borrower.account.request("DELETE", f"{path}/features")).status_code == 204
    assert not await store.is_pinned(query)
    assert (await audit(store, Anchored(node.world.database))).restored == 0
    assert not await store.is_pinned(query)
    kept = await borrower.account.get(path)
    assert (kept["features_kept"], kept["quote"], kept["query_digest"]) == (False, quoted["quote"], quoted["query_digest"])
    async with node.world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
    assert [row.sealed_features, row.sealed_salt, row.sealed_blinding, row.sealed_answer_key, row.query] == [None] * 5
    refused = await borrower.account.request("POST", f"{path}/acceptance")
    assert (refused.status_code, refused.json()["title"]) == (409, "FeaturesErased")
    async with node.world.database.begin() as session:
        (await session.execute(select(Application))).scalar_one().answered_at = 0  # the period is over
    again = await borrower.ask(deployment_id, FEATURES, key="again-key")
    assert (again.status_code, again.json()["title"]) == (409, "SameFeatures")


async def test_application__same_key_twice__is_one_application_and_one_fee(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    deployment_id = lender.deploy()
    first, second = [await borrower.ask(deployment_id, FEATURES) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, second.json())
    other = await borrower.ask(deployment_id, FEATURES | {"age": 34})
    assert (other.status_code, other.json()["title"]) == (409, "IdempotencyKeyReused")
    await borrower.until(first.json()["id"], "waiting")
    third = await borrower.ask(deployment_id, FEATURES)
    assert third.json() == first.json()
    async with node.world.database.begin() as session:
        assert [row.value for row in (await session.execute(select(OutgoingTransaction))).scalars()] == [FEE]
        assert len(list((await session.execute(select(Application))).scalars())) == 1


async def test_query__whatever_has_to_be_repeated__is_the_same_bytes(
    node: OwnerNode, lender: BareLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower, store = await Borrower.at(node, lender), node.world.store
    published: list[bytes] = []

    async def not_kept(cid: str) -> bool:
        async with node.world.database.begin() as session:
            row = (await session.execute(select(Application))).scalar_one()
        if row.query is not None and cid == cid_of(digest_from_hex("0x" + (row.query_digest or b"").hex())):
            published.append(row.query)
            return len(published) > 2
        return True

    monkeypatch.setattr(store, "_is_pinned", not_kept)
    application = await borrower.waiting(lender.deploy(), FEATURES)
    assert len(published) >= 3
    assert set(published) == {await borrower.query(application)}


async def test_ticket__for_a_query__is_redeemed_by_the_trainer_until_the_query_is_stored(node: OwnerNode, lender: BareLender) -> None:
    borrower, tickets = await Borrower.at(node, lender), list[str]()
    request = node.world.trainer.request

    async def overheard(method: str, path: str, **options: Any) -> Any:
        tickets.append(options["json"]["ticket"])
        shown = [await _redeemed(node, tickets[-1], token) for token in ("trainer-token", "trainer-token", "coordinator-token")]
        assert [answer.status_code for answer in shown] == [200, 200, 403]
        assert shown[0].json() == shown[1].json()
        assert shown[0].json()["features"] == CANONICAL
        return await request(method, path, **options)

    node.world.trainer.request = overheard  # type: ignore[method-assign]
    await borrower.waiting(lender.deploy(), FEATURES)
    assert [(await _redeemed(node, ticket, "trainer-token")).status_code for ticket in tickets] == [404]
    wrong = await node.api.post("/v1/tickets/redeem", json={"ticket": tickets[0]}, headers=bearer("trainer-token"))
    assert wrong.status_code == 404


async def _redeemed(node: OwnerNode, ticket: str, token: str) -> Any:
    return await node.api.post("/v1/tickets/application", json={"ticket": ticket}, headers=bearer(token))


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
