"""A lender's deployments against bare borrowers on the real chain: calibrated, asked, answered, accepted, retired; and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from bare_borrower import digest_of_nothing
from lender_node import KEY_BITS, eventually
from serving_scene import BAD, FEE, GOOD, WINDOW, ServingScene, serving_lender

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.postgres import Postgres
from hessian.artifacts.scoring_model import ScoringModel
from hessian.chain.deployment_records import RequestState
from hessian.errors import IpfsUnavailable
from hessian.identifiers import Address, DeploymentId, Digest, Wei, digest_from_hex

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = {"features": {"rate": "1"}, "salt": "0x" + "11" * 32, "borrower_key": "0x" + "22" * 32}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: Postgres,
    module_database_url: str,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> AsyncIterator[ServingScene]:
    """One trained model for the whole file: training it takes seconds, and nothing here changes it."""
    contracts = repository_contract, serving_contract
    folder = tmp_path_factory.mktemp("lender")
    async with serving_lender(folder, postgres_server, module_database_url, anvil, contracts, block_store) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(serving: ServingScene) -> dict[str, Any]:
    return await serving.deployed()


async def test_calibration__of_a_trained_model__comes_before_any_deployment_and_is_what_it_publishes(
    serving: ServingScene, deployment: dict[str, Any]
) -> None:
    found = (await serving.lender.admin.get(f"/v1/models/{serving.identity}/calibration")).json()
    assert found == deployment["calibration"]
    assert found["rows"] == sum(point["rows"] for point in found["curve"]) == 200
    assert found["brier"][found["method"]] == min(found["brier"].values()) < found["base_rate_brier"]
    world = serving.lender.world
    scoring = ScoringModel.from_bytes(await world.store.get(digest_from_hex(deployment["scoring_digest"])))
    on_chain = await world.deployment.deployment(DeploymentId(deployment["deployment_id"]), await world.chain.final_block())
    assert on_chain.scoring_digest == scoring.digest
    assert list(scoring.calibration.probabilities) == found["probabilities_bps"] == [band["pd_bps"] for band in deployment["bands"]]
    scoring.check_against(serving.scene.manifest, on_chain.weights_digest)
    assert {band["decision"] for band in deployment["bands"]} == {"approve", "decline"}


async def test_deploy__same_key_twice__is_one_deployment_and_bad_wishes_are_none(serving: ServingScene) -> None:
    listed = (await serving.lender.admin.get("/v1/deployments")).json()["items"]
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"policy": {"cutoff_bps": 10_000}}, "Malformed"),
        ({"policy": {"reasons": {"status": "the label is no feature"}}}, "PolicyRefused"),
        ({"answer_window": 1}, "WindowTooShort"),
        ({"blinding_bits": 41}, "Malformed"),
        ({"fee_wei": 5}, "Malformed"),
        ({"model": "00000000-0000-0000-0000-000000000000"}, "ModelUnknown"),
    ]
    for bad, title in refusals:
        answer = await serving.post_deployment(serving.wish(**bad))
        assert (answer.status_code in (404, 422), answer.json()["title"]) == (True, title), answer.text
    open_model = await serving.lender.open_model()
    assert (await serving.post_deployment(serving.wish(model=open_model["id"]))).json()["title"] == "ModelNotTrained"
    assert (await serving.lender.admin.get("/v1/deployments")).json()["items"] == listed
    wish = serving.wish(fee_wei="0")
    first, second = [(await serving.post_deployment(wish, key="one and the same")).json() for _ in range(2)]
    assert first == second
    await serving.until_deployment(first["id"], "serving")


async def test_answer__private_queries__decide_as_on_plaintext_and_tell_the_borrower_only(
    serving: ServingScene, deployment: dict[str, Any]
) -> None:
    for values, decision in ((GOOD, "approve"), (BAD, "decline")):
        borrower = await serving.borrower(deployment, values)
        request_id = await borrower.ask(fee=FEE)
        seen = await serving.answered(request_id)
        score, plain = await serving.plain_decision(borrower)
        assert (seen["score"], seen["decision"], seen["rate_bps"]) == (score, decision, plain.rate_bps)
        quote = await borrower.quote(request_id)
        assert quote.decision == plain
        assert (quote.valid_until, quote.reasons) == (seen["valid_until"], ())
        assert seen["features"] is None
        assert (await serving.scene.ask(f"/v1/requests/{request_id}/answer"))["outcome"] == "done"


async def test_answer__asked_for_while_the_store_fails__is_computed_once_and_anchored_as_stored(
    serving: ServingScene, deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    request_id = await borrower.ask(fee=FEE)
    await serving.until_seen(request_id)

    async def broken(_: bytes) -> str:
        raise IpfsUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(serving.lender.world.store, "_put", broken)
        answers = await asyncio.gather(*(serving.lender.coordinator.post(f"/v1/requests/{request_id}/answer") for _ in range(3)))
        assert "IpfsUnavailable" in {answer.json()["title"] for answer in answers} <= {"IpfsUnavailable", "LookupRefused"}
    stored = (await serving.request(request_id))["answer_digest"]
    await serving.answered(request_id)
    on_chain = await serving.lender.world.deployment.request(request_id, await serving.lender.world.chain.final_block())
    assert "0x" + on_chain.answer_digest.hex() == stored


async def test_answer__stored_but_never_published_in_time__is_not_sent_late_and_costs_the_borrower_no_quote(
    serving: ServingScene, deployment: dict[str, Any], anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    digest = await borrower.publish(borrower.query())
    request_id = borrower.request(digest, fee=FEE)
    await serving.until_seen(request_id)

    async def broken(_: bytes) -> str:
        raise IpfsUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(serving.lender.world.store, "_put", broken)
        assert (await serving.lender.coordinator.post(f"/v1/requests/{request_id}/answer")).status_code == 503
    anvil.move_time(WINDOW + 1)
    late = await serving.scene.ask(f"/v1/requests/{request_id}/answer")
    assert (late["outcome"], "ended at" in late["reason"]) == ("superseded", True)
    assert (await serving.accept(request_id, borrower.opening(digest))).json()["title"] == "QuoteMissing"
    borrower.send(serving.lender.world.deployment.expire_request(request_id))
    await serving.until(request_id, RequestState.EXPIRED)
    assert (await serving.request(request_id))["state"] == "expired"
    assert (await serving.answered(borrower.request(digest, fee=FEE)))["state"] == "answered"


async def test_answer__query_that_is_none__stays_unanswered_with_a_reason_and_the_fee_goes_back(
    serving: ServingScene, deployment: dict[str, Any], anvil: Anvil
) -> None:
    other = await serving.deployed(fee_wei="0")
    borrower = await serving.borrower(deployment, GOOD)
    n = serving.scene.manifest.public_key.n
    honest = borrower.query()
    shared_factor = serving.scene.manifest.public_key.ciphertext_bytes * b"\0"
    spoiled = [
        (b"not an artifact at all", "bytes after the end"),
        (borrower.query(deployment_id=DeploymentId(other["deployment_id"])).to_bytes(), "another deployment"),
        (borrower.query(scoring=Digest(b"s" * 32)).to_bytes(), "another scoring model"),
        (honest.to_bytes().replace(honest.ciphertext, shared_factor), "between 0 and n²"),
        (honest.to_bytes().replace(honest.ciphertext, n.to_bytes(len(shared_factor), "big")), "common factor"),
        (borrower.query(borrower_key=bytes(32)).to_bytes(), "not a usable X25519 key"),
    ]
    for data, words in spoiled:
        number = borrower.request(await borrower.store.put(data), fee=FEE)
        outcome = await serving.coordinate(number)
        assert outcome["outcome"] == "done"
        assert words in outcome["reason"], outcome["reason"]
        seen = await serving.request(number)
        assert (seen["state"], seen["answer_digest"], seen["score"]) == ("waiting", None, None)
        assert words in seen["reason"]
    missing = borrower.request(digest_of_nothing(), fee=FEE)
    await serving.until_seen(missing)
    assert (await serving.lender.coordinator.post(f"/v1/requests/{missing}/answer")).status_code == 503  # the bytes may still come
    again = await serving.answered(await borrower.ask(fee=FEE))  # what was refused counts as no quote
    assert again["state"] == "answered"
    anvil.move_time(WINDOW + 1)
    assert (await serving.scene.ask(f"/v1/requests/{missing}/answer"))["outcome"] == "superseded"
    borrower.send(serving.lender.world.deployment.expire_request(missing))
    await serving.until(missing, RequestState.EXPIRED)
    seen = await serving.request(missing)
    assert (seen["state"], seen["reason"]) == ("expired", "this node came too late to answer it")
    final = await serving.lender.world.chain.final_block()
    assert await serving.lender.world.deployment.credit_of(Address(borrower.account.address), final) == FEE


async def test_answer__second_request_of_an_account_in_the_period__stays_unanswered_whatever_it_sends(
    serving: ServingScene, deployment: dict[str, Any]
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    digest = await borrower.publish(borrower.query())
    first, replay = borrower.request(digest, fee=FEE), borrower.request(digest, fee=FEE)
    await serving.until_seen(replay)
    outcomes = await asyncio.gather(*(serving.scene.ask(f"/v1/requests/{number}/answer") for number in (first, replay)))
    assert sorted(outcome["outcome"] for outcome in outcomes) == ["done", "pending"]
    (refusal,) = [outcome["reason"] for outcome in outcomes if outcome["outcome"] == "done"]
    assert "of the same account got its quote within 2592000 s" in refusal
    elsewhere = await serving.borrower(await serving.deployed(fee_wei="0"), BAD)
    elsewhere.account = borrower.account  # another deployment of the same model: the same key, the same period
    outcome = await serving.coordinate(await elsewhere.ask(fee=Wei(0)))
    assert outcome["outcome"] == "done"
    assert "of the same account" in outcome["reason"]
    copier = await serving.borrower(deployment, GOOD)  # a copy by another account is answered: refusing it would block the pending original
    assert (await serving.coordinate(copier.request(digest, fee=FEE)))["outcome"] == "pending"


async def test_answer__foreign_or_unknown_request__is_nothing_of_ours(serving: ServingScene, anvil: Anvil) -> None:
    early = await serving.lender.coordinator.post("/v1/requests/999999/answer")  # a final block that lags shows nothing either
    assert (early.status_code, early.json()["title"]) == (503, "RequestNotFinal")
    assert (await serving.lender.public.post("/v1/requests/999999/assessment", json=SHOWN)).status_code == 404
    assert (await serving.lender.admin.get("/v1/requests/999999")).status_code == 404
    assert (await serving.lender.public.post("/v1/requests/999999/answer")).status_code == 401
    assert (await serving.lender.public.get("/v1/requests/1")).status_code == 401
    assert (await serving.lender.coordinator.get("/v1/deployments")).status_code == 403


async def test_accept__right_opening__is_confirmed_once_and_shows_the_lender_the_features(
    serving: ServingScene, deployment: dict[str, Any]
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    digest = await borrower.publish(borrower.query())
    request_id = borrower.request(digest, fee=FEE)
    opening = borrower.opening(digest)
    await serving.until_seen(request_id)
    assert (await serving.accept(request_id, opening)).status_code == 404  # nobody asked this node to answer yet
    await serving.answered(request_id)
    first, second = await asyncio.gather(serving.accept(request_id, opening), serving.accept(request_id, opening))
    assert first.status_code == second.status_code == 200, first.text
    quote = await borrower.quote(request_id)
    confirmed = first.json()
    assert confirmed == second.json() == (await serving.accept(request_id, opening)).json()
    assert (confirmed["rate_bps"], confirmed["pd_bps"]) == (quote.decision.rate_bps, quote.decision.pd_bps)
    assert confirmed["valid_until"] == quote.valid_until
    seen = await serving.request(request_id)
    assert (seen["features"], seen["accepted_at"]) == (borrower.features, confirmed["accepted_at"])
    async with serving.lender.world.database.begin() as session:
        connection = await session.connection()
        (kept,) = (await connection.exec_driver_sql(f"select sealed_features from requests where request_id = {request_id}")).scalars()
    assert not any(text.encode() in bytes(kept) for text in borrower.features.values() if len(text) > 2)


async def test_accept__wrong_openings__are_refused_alike_and_decrypt_nothing_that_was_not_committed_to(
    serving: ServingScene, deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    digest = await borrower.publish(borrower.query())
    request_id = borrower.request(digest, fee=FEE)
    await serving.answered(request_id)
    right = borrower.opening(digest)
    opened: list[int] = []
    real = type(serving.lender.world.served[next(iter(serving.lender.world.served))].private_key).decrypt

    def counting(key: Any, ciphertext: int) -> int:
        opened.append(ciphertext)
        return real(key, ciphertext)

    monkeypatch.setattr("hessian.paillier.decryption.PrivateKey.decrypt", counting)
    wrong = [
        right | {"salt": "0x" + "11" * 32},
        right | {"features": borrower.features | {"rate": "3.6"}},
        right | {"features": borrower.features | {"rate": "3.50"}},  # not the canonical form
        right | {"features": {}},
        right | {"blinding": hex(borrower.blinding + 1)},
        right | {"blinding": "0x" + "f" * 2048},
        right | {"query_digest": "0x" + "22" * 32},
        {name: value for name, value in right.items() if name != "blinding"} | {"borrower_key": "0x" + borrower.keys.public.hex()},
    ]
    answers = [await serving.accept(request_id, body) for body in wrong]
    assert {answer.status_code for answer in answers} == {409}
    assert {(answer.json()["title"], answer.json()["detail"]) for answer in answers} == {
        ("OpeningRefused", "This is not what the request was made with.")
    }
    assert opened == []
    assert (await serving.accept(request_id, right)).status_code == 200
    assert len(opened) == 1
    malformed_bodies: list[dict[str, Any]] = [right | {"salt": "0x11"}, right | {"more": 1}, right | {"blinding": None}, {"features": {}}]
    for malformed in malformed_bodies:
        assert (await serving.accept(request_id, malformed)).status_code == 422
    too_large = right | {"features": {f"column {number}": "x" * 200 for number in range(1024)}, "salt": "0x" + "11" * 200_000}
    assert (await serving.accept(request_id, too_large)).status_code == 413


async def test_accept__query_made_of_other_numbers_than_its_commitment__is_refused_like_a_wrong_opening(
    serving: ServingScene, deployment: dict[str, Any]
) -> None:
    borrower, better = await serving.borrower(deployment, BAD), await serving.borrower(deployment, GOOD)
    digest = await borrower.publish(borrower.query(ciphertext=better.ciphertext()))  # scored as good, committed to as bad
    request_id = borrower.request(digest, fee=FEE)
    assert (await serving.answered(request_id))["decision"] == "approve"
    answer = await serving.accept(request_id, borrower.opening(digest))
    assert (answer.status_code, answer.json()["title"]) == (409, "OpeningRefused")
    assert (await serving.request(request_id))["accepted_at"] is None


async def test_accept__declined_or_expired_quote__says_so_to_who_can_open_it(serving: ServingScene, anvil: Anvil) -> None:
    short = await serving.deployed(policy={"quote_valid_seconds": 60, "quote_period_seconds": 60})
    made = []
    for values in (BAD, GOOD):
        borrower = await serving.borrower(short, values)
        digest = await borrower.publish(borrower.query())
        made.append((borrower.request(digest, fee=FEE), borrower.opening(digest), borrower, digest))
    (declined, no, *_), (approved, yes, borrower, digest) = made
    await serving.answered(declined)
    await serving.answered(approved)
    assert (await serving.accept(declined, no)).json()["title"] == "QuoteDeclined"
    anvil.move_time(61)

    async def expired() -> bool:
        final = await serving.lender.world.chain.final_block()
        return bool(final.timestamp > (await serving.request(approved))["valid_until"])

    await eventually(expired)
    assert (await serving.accept(approved, yes)).json()["title"] == "QuoteExpired"
    assert (await serving.accept(approved, yes | {"salt": "0x" + "11" * 32})).json()["title"] == "OpeningRefused"
    renewed = borrower.request(digest, fee=FEE)  # a period later the same bytes get a fresh quote
    await serving.answered(renewed)
    assert (await serving.accept(renewed, yes)).status_code == 200


async def test_assess__open_application__is_answered_with_reasons_and_accepted(serving: ServingScene, deployment: dict[str, Any]) -> None:
    borrower = await serving.borrower(deployment, BAD)
    request_id = borrower.request(borrower.open_application().digest, fee=FEE)
    assert (await serving.assess(request_id, borrower.shown() | {"salt": "0x" + "11" * 32})).json()["title"] == "NotWhatWasNamed"
    answers = await asyncio.gather(*(serving.assess(request_id, borrower.shown()) for _ in range(2)))
    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(202, "waiting")] * 2
    await serving.until(request_id, RequestState.ANSWERED)
    quote = await borrower.quote(request_id)
    _, plain = await serving.plain_decision(borrower)
    assert (quote.decision, quote.reasons) == (plain, ("The rate asked for is high",))
    seen = await serving.request(request_id)
    assert (seen["mode"], seen["features"], seen["reasons"]) == ("open", borrower.features, list(quote.reasons))
    assert (await serving.assess(request_id, borrower.shown())).json() == {"request_id": request_id, "state": "answered"}

    good = await serving.borrower(deployment, GOOD)
    application = good.open_application()
    number = good.request(application.digest, fee=FEE)
    assert (await serving.assess(number, good.shown())).status_code == 202
    await serving.until(number, RequestState.ANSWERED)
    body = {"query_digest": "0x" + application.digest.hex(), **good.shown()}
    assert (await serving.accept(number, body | {"salt": "0x" + "11" * 32})).json()["title"] == "OpeningRefused"
    assert (await serving.accept(number, body)).status_code == 200


async def test_assess__features_in_another_form__are_named_one_by_one(serving: ServingScene, deployment: dict[str, Any]) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    for wrong, says in (({"rate": "3.50"}, "canonical form"), ({"rate": "much"}, "decimal number")):
        shown = replace(borrower.open_application(), features=borrower.features | wrong)
        number = borrower.request(shown.digest, fee=FEE)
        refused = await serving.assess(number, borrower.shown() | {"features": shown.features})
        assert (refused.status_code, refused.json()["title"]) == (422, "FeaturesRefused"), refused.text
        assert [(error["where"], says in error["what"]) for error in refused.json()["errors"]] == [("features.rate", True)]
    assert (await serving.request(number))["state"] == "waiting"


async def test_serving__everything_published_and_stored__holds_neither_the_key_nor_the_blinding(
    serving: ServingScene, deployment: dict[str, Any]
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    digest = await borrower.publish(borrower.query())
    request_id = borrower.request(digest, fee=FEE)
    await serving.answered(request_id)
    assert (await serving.accept(request_id, borrower.opening(digest))).status_code == 200
    world = serving.lender.world
    (key,) = {served.private_key.to_bytes(): served.private_key for served in world.served.values()}.values()
    async with world.database.begin() as session:
        connection = await session.connection()
        tables = ("deployments", "requests", "outbox", "idempotent_answers")
        rows = [str(row) for table in tables for row in await connection.exec_driver_sql(f"select {table}::text from {table}")]
    answer = (await serving.request(request_id))["answer_digest"]
    published = [await world.store.get(digest_from_hex(name)) for name in (deployment["scoring_digest"], answer)]
    for prime in (key.p, key.q):
        octets = prime.to_bytes(KEY_BITS // 16, "big")
        assert not any(octets in data for data in published)
        assert not any(octets.hex() in row or str(prime) in row for row in rows)
    assert not any(hex(borrower.blinding)[2:] in row or str(borrower.blinding) in row for row in rows)


async def test_retire__while_a_request_waits__refuses_new_ones_and_still_answers(serving: ServingScene) -> None:
    made = await serving.deployed(fee_wei="0")
    borrower = await serving.borrower(made, GOOD)
    waiting = await borrower.ask(fee=Wei(0))
    headers = {"Idempotency-Key": f"retire {made['id']}"}
    assert (await serving.lender.admin.post(f"/v1/deployments/{made['id']}/retire", headers=headers)).status_code == 202
    await serving.until_deployment(made["id"], "retired")
    late = await serving.borrower(made, GOOD)
    with pytest.raises(Exception, match="reverted"):
        await late.ask(fee=Wei(0))
    assert (await serving.answered(waiting))["state"] == "answered"
    again = await serving.lender.admin.post(f"/v1/deployments/{made['id']}/retire", headers={"Idempotency-Key": "another key"})
    assert (again.status_code, again.json()["title"]) == (409, "DeploymentNotServing")
    listed = (await serving.lender.admin.get(f"/v1/deployments/{made['id']}/requests")).json()["items"]
    assert [item["request_id"] for item in listed] == [waiting]


async def test_withdraw__fees_of_answers__come_from_the_second_contract(serving: ServingScene, deployment: dict[str, Any]) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    await serving.answered(await borrower.ask(fee=FEE))
    wallet = (await serving.lender.admin.get("/v1/wallet")).json()
    assert int(wallet["fees_credit_wei"]) >= FEE
    headers = {"Idempotency-Key": "all the fees"}
    asked = await serving.lender.admin.post("/v1/withdrawals?contract=deployment", headers=headers)
    assert (asked.status_code, asked.json()["contract"]) == (202, "deployment"), asked.text
    path = f"/v1/withdrawals/{asked.json()['id']}"

    async def paid() -> bool:
        return bool((await serving.lender.admin.get(path)).json()["state"] == "final")

    await eventually(paid)
    assert (await serving.lender.admin.get(path)).json()["amount_wei"] == wallet["fees_credit_wei"]
    assert (await serving.lender.admin.get("/v1/wallet")).json()["fees_credit_wei"] == "0"
