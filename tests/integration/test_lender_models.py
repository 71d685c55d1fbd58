"""lender-api on real Postgres, anvil and block store: validation rows in, models on chain, refusals that leave nothing behind."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from exposition import declared, scrape
from lender_node import DIMENSION, FEATURES, KEY_BITS, LenderNode, eventually, lender_settings, loans, running_lender
from sqlalchemy import func, select, text

import lender_api.__main__ as command
from devstack.anvil import POCKET_MONEY, Anvil
from devstack.contracts import Deployment
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.records import ModelState
from hessian.errors import KeyLost
from hessian.identifiers import ModelId, Wei, digest_from_hex
from hessian.postgres.engine import SchemaInUse
from hessian.service import outbox_metrics
from hessian.settings import DatabaseSettings
from lender_api import metrics
from lender_api.models import preparation
from lender_api.settings import Settings
from lender_api.tables import Base, IdempotentAnswer, Model, ModelKey, Outbox, ValidationSet


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


@pytest.fixture
async def lender(settings: Settings, anvil: Anvil) -> AsyncIterator[LenderNode]:
    async with running_lender(settings, anvil) as node:
        yield node


@pytest.fixture
async def idle_lender(settings: Settings, anvil: Anvil) -> AsyncIterator[LenderNode]:
    """Nothing is prepared and nothing leaves."""
    async with running_lender(settings, anvil, workers=False) as node:
        yield node


async def count(node: LenderNode, table: type[Any]) -> int:
    async with node.world.database.begin() as session:
        return (await session.execute(select(func.count()).select_from(table))).scalar_one()


async def test_create_model__valid_wish__is_open_on_chain_with_its_artifacts_pinned(lender: LenderNode) -> None:
    model = await lender.open_model()
    world = lender.world
    record = await world.repository.model(ModelId(model["model_id"]), await world.chain.final_block())
    assert (record.lender, record.state) == (world.keys.address, ModelState.OPEN)
    assert record.escrow == int(model["escrow_wei"]) == 10**18 + 4 * 10**15
    assert record.terms.initial_error == model["initial_error"] == model["best_error"] > 0
    assert await world.store.is_pinned(record.manifest_digest)
    read = await scrape(metrics.reads(world))
    assert declared(metrics, outbox_metrics) <= read.names
    assert (read.value("tx_intents", state="final"), read.value("tx_oldest_open_seconds"), read.value("signer_nonce")) == (1, 0, 1)
    assert 0 < (read.value("signer_balance_wei") or 0) < POCKET_MONEY - 10**18
    assert read.value("tx_time_until_final_seconds_count", purpose="create_model") is not None
    read.require_impersonal()
    manifest = ModelManifest.from_bytes(await world.store.get(record.manifest_digest), minimum_bits=KEY_BITS)
    manifest.verify_certificate()
    manifest.check_against(record.terms)
    assert manifest.dimension == DIMENSION == len(model["features"])
    encrypted = EncryptedWeights.from_bytes(await world.store.get(record.weights_digest)).check_against(manifest)
    async with world.database.begin() as session:
        key = world.keys.open_private_key((await session.execute(select(ModelKey))).scalar_one())
    plain = (await lender.admin.get(f"/v1/models/{model['id']}/weights")).json()
    assert [key.decrypt(ciphertext) for ciphertext in encrypted] == plain["weights"]
    assert (plain["version"], plain["digest"]) == (0, model["weights_digest"])


async def test_create_model__identical_requests_at_once__make_one(idle_lender: LenderNode) -> None:
    body = await idle_lender.wish((await idle_lender.upload(loans(200, seed=1))).json()["id"])
    answers = await asyncio.gather(*(idle_lender.post_model(body, key="the-same-key") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await count(idle_lender, Model) == 1
    other = await idle_lender.post_model(body | {"name": "Another"}, key="the-same-key")
    assert (other.status_code, other.json()["title"]) == (409, "IdempotencyKeyReused")


async def test_create_model__killed_after_every_step__resumes_with_the_same_key(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil, workers=False) as node:
        body = await node.wish((await node.upload(loans(200, seed=1))).json()["id"])
        identity = (await node.post_model(body)).json()["id"]
        async with node.world.database.begin() as session:
            model = (await session.execute(select(Model))).scalar_one()
        key, _ = await preparation.ensure_key(node.world, model)
    async with running_lender(settings, anvil) as node:
        opened = await node.until_model(identity, "open")
        manifest = await node.world.store.get(digest_from_hex(opened["manifest_digest"]))
    assert ModelManifest.from_bytes(manifest, minimum_bits=KEY_BITS).public_key == key.public_key


async def test_start__wrong_passphrase__refuses_and_makes_nothing(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil, workers=False) as node:
        address = node.world.keys.address
    settings.passphrase_file.write_text(secrets.token_urlsafe(16), encoding="utf-8")
    with pytest.raises(BaseException) as raised:
        async with running_lender(settings, anvil, workers=False):
            pass
    assert raised.group_contains(KeyLost) if isinstance(raised.value, BaseExceptionGroup) else raised.type is KeyLost
    assert address not in str(raised.value)


async def test_rotate_passphrase__of_the_lender__is_refused_while_it_runs_and_keeps_its_wallet(
    settings: Settings, anvil: Anvil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.passphrase"
    new.touch(mode=0o600)
    new.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    monkeypatch.setattr(command, "Settings", lambda: settings)
    async with running_lender(settings, anvil, workers=False) as node:
        address = node.world.keys.address
        with pytest.raises(SchemaInUse):
            await command._rotate(new, asyncio.Event())
    await command._rotate(new, asyncio.Event())
    settings.passphrase_file.write_text(new.read_text(encoding="utf-8"), encoding="utf-8")
    async with running_lender(settings, anvil, workers=False) as node:
        assert node.world.keys.address == address


BAD_WISHES: list[tuple[dict[str, Any], int, str]] = [
    ({"features": [{"kind": "numeric", "name": "income", "minimum": 0, "maximum": 1}]}, 422, "'income' is missing"),
    ({"features": [{"kind": "numeric", "name": "rate", "minimum": 0, "maximum": 10}]}, 422, "column 'rate': outside the legal range"),
    ({"features": [{"kind": "numeric", "name": "term", "minimum": "NaN", "maximum": 10}]}, 422, "minimum"),
    ({"features": [{"kind": "category", "name": "term", "levels": [{"name": "a", "values": ["36"]}]}]}, 422, "not one of the declared"),
    ({"features": [{"kind": "numeric", "name": "status", "minimum": 0, "maximum": 10}]}, 422, "status"),
    ({"key_bits": 512 - 2}, 422, "key_bits"),
    ({"cohort_size": 65}, 422, "cohort_size"),
    ({"terms": {"target_error": 900_000_000}}, 422, "already meets the target"),
    ({"terms": {"bounty_wei": str(10**30)}}, 409, "holds"),
    ({"terms": {"bounty_wei": 5}}, 422, "string of decimal digits"),
    ({"terms": {"bounty_wei": "1e18"}}, 422, "string of decimal digits"),
    ({"terms": {"bounty_wei": "0"}}, 422, "bounty_wei"),
    ({"terms": {"member_bond_wei": "0"}}, 422, "member_bond_wei"),
    ({"terms": {"submit_window": 1}}, 422, "submit_window"),
    ({"terms": {"training_deadline": 1}}, 422, "training_deadline"),
    ({"surprise": 1}, 422, "surprise"),
    ({"features": [{"kind": "numeric", "name": "rate", "minimum": 0, "maximum": 40, "clip": [30, 2]}]}, 422, "clips"),
    ({"validation_set_id": "00000000-0000-0000-0000-000000000000"}, 404, "no such validation set"),
    ({"name": "\u0000"}, 422, "name"),
    ({"features": []}, 422, "features"),
    ({"features": [FEATURES[0], FEATURES[0]]}, 422, "different columns"),
]


async def test_create_model__bad_wishes__are_refused_in_words_and_nothing_is_stored(idle_lender: LenderNode) -> None:
    rows = (await idle_lender.upload(loans(200, seed=1))).json()["id"]
    for changes, status, words in BAD_WISHES:
        answer = await idle_lender.post_model(await idle_lender.wish(rows, **changes))
        assert (answer.status_code, words in answer.text) == (status, True), (changes, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await count(idle_lender, Model) == await count(idle_lender, Outbox) == await count(idle_lender, IdempotentAnswer) == 0


async def test_create_model__too_few_rows__says_how_many_it_needs(idle_lender: LenderNode) -> None:
    body = await idle_lender.wish((await idle_lender.upload(loans(49, seed=1))).json()["id"])
    answer = await idle_lender.post_model(body)
    assert (answer.status_code, answer.json()["title"]) == (422, "TooFewRows")
    assert "50" in answer.json()["detail"]


HEADER = "amount,rate,term,status\n"
BAD_CSVS: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (HEADER.encode(), "no rows"),
    ((HEADER + "1,2,36,bad\n1,2,36\n").encode(), "row 2"),
    ((HEADER + "1,2,36,bad\n1,nan,36,good\n").encode(), "row 2, column 'rate'"),
    ((HEADER + "-inf,2,36,bad\n1,2,36,good\n").encode(), "row 1, column 'amount'"),
    ((HEADER + "1,2,36,bad\n1,2,36,\n").encode(), "row 2, column 'status': the label is missing"),
    ((HEADER + "1,2,36,bad\n1,2,36,bad\n").encode(), "both classes"),
    ((HEADER + "1,2,36,good\n").encode(), "both classes"),
    (b"amount,rate\n1,2\n", "'status' is missing"),
    (b"amount,amount,status\n1,2,bad\n", "twice"),
    ((HEADER + "1,2,36,b\xff\n").encode("latin-1"), "UTF-8"),
    ((HEADER + '1,2,"36,bad\n').encode(), "CSV"),
    ((HEADER + "1,2,3\x006,bad\n").encode(), "NUL"),
]


async def test_upload__bad_csvs__are_refused_with_their_place_and_nothing_is_stored(idle_lender: LenderNode) -> None:
    for csv, words in BAD_CSVS:
        answer = await idle_lender.upload(csv)
        assert (answer.status_code // 100, words in answer.json()["detail"]) == (4, True), (csv, answer.text)
    assert await count(idle_lender, ValidationSet) == 0


async def test_lists__more_rows_than_a_page__are_read_on_without_gap_or_repetition(idle_lender: LenderNode) -> None:
    for number in range(5):
        await idle_lender.upload(loans(20, seed=number), name=f"set {number}")
    names, after = [], ""
    for _ in range(3):
        page = (await idle_lender.admin.get("/v1/validation-sets", params={"limit": 2, "after": after})).json()
        names += [item["name"] for item in page["items"]]
        after = page["next"]
    assert names == [f"set {number}" for number in range(5)]
    assert after is None
    assert (await idle_lender.admin.get("/v1/models", params={"after": "!"})).status_code == 422


async def test_at_rest__rows_keys_and_weights__are_not_readable_in_the_tables(settings: Settings, anvil: Anvil) -> None:
    async with running_lender(settings, anvil) as node:
        model = await node.open_model()
        plain = (await node.admin.get(f"/v1/models/{model['id']}/weights")).json()
        async with node.world.database.begin() as session:
            key = node.world.keys.open_private_key((await session.execute(select(ModelKey))).scalar_one())
            account = await node.world.keys.signer_of(node.world.keys.address)
            rows = [(await session.execute(text(f'select * from "{table.name}"'))).all() for table in Base.metadata.sorted_tables]
    values = [value for table in rows for row in table for value in row]
    stored = b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)
    prime = key.p.to_bytes(KEY_BITS // 16, "big")
    assert plain["weights"][0] > 1000  # the base rate: a number that would be seen
    for secret in (prime, str(key.p).encode(), bytes(account.key), b"36,bad", str(plain["weights"][0]).encode()):
        assert secret not in stored
        assert secret.hex().encode() not in stored
    assert model["weights_digest"][2:] in stored.hex()  # the search finds what is there


async def test_upload__parquet__is_kept_as_the_same_rows(idle_lender: LenderNode) -> None:
    file = io.BytesIO()
    pq.write_table(pa_csv.read_csv(io.BytesIO(loans(60, seed=2).encode())), file)
    query = {"name": "loans", "label": "status", "positive": "bad"}
    kind = {"content-type": "application/vnd.apache.parquet"}
    answer = await idle_lender.admin.post("/v1/validation-sets", params=query, content=file.getvalue(), headers=kind)
    as_csv = (await idle_lender.upload(loans(60, seed=2))).json()
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert {name: made[name] for name in ("rows", "positives", "columns")} == {
        name: as_csv[name] for name in ("rows", "positives", "columns")
    }
    cut = await idle_lender.admin.post("/v1/validation-sets", params=query, content=file.getvalue()[:-9], headers=kind)
    assert (cut.status_code, "cut off" in cut.json()["detail"]) == (422, True)


async def test_outline__of_a_validation_set__is_what_a_model_can_be_made_of(lender: LenderNode) -> None:
    rows = loans(200, seed=3).splitlines()
    header, *body = rows
    wider = [header + ",row,rate_again", *(f"{line},{place},{line.split(',')[1]}" for place, line in enumerate(body))]
    uploaded = (await lender.upload("\n".join(wider) + "\n")).json()
    answer = await lender.admin.get(f"/v1/validation-sets/{uploaded['id']}/outline", params={"most_entries": 12})
    proposal = answer.json()
    assert answer.status_code == 200, answer.text
    assert {each["column"]: each["use"] for each in proposal["preparation"]} == {
        "amount": "numeric", "rate": "numeric", "term": "numeric", "row": "left out", "rate_again": "left out",
    }  # fmt: skip
    edited = [each for each in proposal["features"] if each["name"] != "amount"]
    preparation = [
        each | {"use": "left out", "reason": "it tells too little"} if each["column"] == "amount" else each
        for each in proposal["preparation"]
    ]
    wish = await lender.wish(uploaded["id"], features=edited, preparation=preparation, cohort_size=2)
    made = (await lender.post_model(wish)).json()
    model = await lender.until_model(made["id"], "open")
    manifest = ModelManifest.from_bytes(await lender.world.store.get(digest_from_hex(model["manifest_digest"])), minimum_bits=KEY_BITS)
    assert manifest.specification.names == ("intercept", "rate", "term")
    assert [(each.column, each.use.value, each.reason) for each in manifest.preparation] == [
        (each["column"], each["use"], each["reason"]) for each in preparation
    ]


async def test_outline__of_rows_that_tell_nothing__is_refused_with_the_reasons(idle_lender: LenderNode) -> None:
    uploaded = (await idle_lender.upload("same,status\n" + "1,bad\n1,good\n" * 30)).json()
    answer = await idle_lender.admin.get(f"/v1/validation-sets/{uploaded['id']}/outline")
    assert (answer.status_code, answer.json()["title"]) == (422, "NothingToLearn")
    assert "every row has the same value" in answer.json()["detail"]


async def test_upload__other_content__is_refused(idle_lender: LenderNode) -> None:
    query = {"name": "loans", "label": "status", "positive": "bad"}
    answer = await idle_lender.admin.post("/v1/validation-sets", params=query, json={"a": 1})
    assert (answer.status_code, answer.json()["title"]) == (422, "NotATable")


async def test_close__open_model__cancels_it_and_the_refund_can_be_withdrawn_once(lender: LenderNode) -> None:
    model = await lender.open_model()
    answers = [await lender.admin.post(f"/v1/models/{model['id']}/close", headers={"Idempotency-Key": "close-it-once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    closed = await lender.until_model(model["id"], "cancelled")
    assert (closed["is_closed"], closed["refund_wei"]) == (True, model["escrow_wei"])
    assert (await lender.admin.get("/v1/wallet")).json()["credit_wei"] == model["escrow_wei"]
    again = await lender.admin.post(f"/v1/models/{model['id']}/close", headers={"Idempotency-Key": "close-it-twice"})
    assert (again.status_code, again.json()["title"]) == (409, "ModelAlreadyClosed")

    withdrawal = (await lender.admin.post("/v1/withdrawals", headers={"Idempotency-Key": "take-the-credit"})).json()
    twice = (await lender.admin.post("/v1/withdrawals", headers={"Idempotency-Key": "take-the-credit"})).json()
    assert withdrawal["id"] == twice["id"]

    async def final() -> bool:
        return bool((await lender.admin.get(f"/v1/withdrawals/{withdrawal['id']}")).json()["state"] == "final")

    await eventually(final)
    assert Wei(int((await lender.admin.get("/v1/wallet")).json()["credit_wei"])) == 0
    nothing = await lender.admin.post("/v1/withdrawals", headers={"Idempotency-Key": "take-more-credit"})
    assert (nothing.status_code, nothing.json()["title"]) == (409, "NothingToWithdraw")


async def test_every_route__without_or_with_the_wrong_token__is_refused(idle_lender: LenderNode) -> None:
    refused = await idle_lender.admin.post("/v1/rounds/1/accept")
    assert (refused.status_code, refused.json()["title"]) == (403, "NotPermitted")
    refused = await idle_lender.coordinator.get("/v1/wallet")
    assert (refused.status_code, refused.json()["title"]) == (403, "NotPermitted")
    refused = await idle_lender.admin.get("/v1/wallet", headers={"Authorization": "Bearer guess"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    missing = await idle_lender.admin.post("/v1/withdrawals")
    assert (missing.status_code, "Idempotency-Key" in missing.text) == (422, True)
