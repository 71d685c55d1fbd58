"""What goes wrong after the fee was paid, from the borrower's side: silence, answers that answer nothing, copies, retired deployments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bare_lender import FEE, BareLender
from borrower import Borrower
from owner_node import OwnerNode, bearer, eventually, run_owner_node
from sqlalchemy import select

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.score_answer import Quote, ScoreAnswer
from hessian.identifiers import RequestId, Timestamp, digest_from_hex, digest_of
from hessian.lending.decision import Decision
from hessian.lending.sealing import sealing_key_pair
from owner_api.states import ApplicationState
from owner_api.tables import Application

FEATURES: dict[str, Any] = {"income": 900.25, "age": 71, "region": "S"}
WINDOW = 20


@pytest.fixture(scope="module")
def lender(anvil: Anvil, repository_contract: Deployment, serving_contract: Deployment) -> BareLender:
    return BareLender(anvil, repository_contract, serving_contract)


@pytest.fixture
async def node(lender: BareLender, database_url: str, tmp_path: Path) -> AsyncIterator[OwnerNode]:
    addresses = lender.repository.address, lender.serving.address
    running = run_owner_node(
        lender.anvil, addresses[0], database_url, tmp_path, serving=addresses[1], processes=1, borrowing_answer_seconds=0
    )
    async with running as (here, _):
        await lender.publish(here.world.store)
        yield here


async def test_request__that_nobody_answers__expires_refunds_the_wallet_and_can_be_made_again(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    application = await borrower.waiting(lender.deploy(window=WINDOW), FEATURES)
    path = f"/v1/requests/{application['request_id']}/expiry"
    early = await node.api.post(path, headers=bearer("coordinator-token"))
    assert (early.status_code, early.json()["title"]) == (503, "NotFinalYet")
    lender.anvil.move_time(WINDOW + 1)
    assert "NotFinalYet" in await borrower.asked(path)
    expired = await borrower.concluded(application)
    assert (expired["state"], "credited" in expired["reason"]) == ("expired", True)
    assert [one["purpose"] for one in expired["transactions"]] == ["request-score", "expire-request"]
    assert (await borrower.account.get("/v1/earnings"))["fees_credit_wei"] == str(FEE)

    before = int((await borrower.account.get("/v1/earnings"))["balance_wei"])
    answer = await borrower.account.request("POST", "/v1/withdrawals?contract=deployment", headers={"Idempotency-Key": "refund-key"})
    assert (answer.status_code, answer.json()["contract"]) == (202, "deployment")
    done = await eventually(
        lambda: borrower.account.get(f"/v1/withdrawals/{answer.json()['id']}"), lambda found: found["state"] in ("final", "failed")
    )
    assert (done["state"], done["amount_wei"], done["contract"]) == ("final", str(FEE), "deployment")
    after = await borrower.account.get("/v1/earnings")
    assert (after["fees_credit_wei"], after["credit_wei"]) == ("0", "0")
    assert before + FEE > int(after["balance_wei"]) > before + FEE - 10**15  # the fee but for gas

    body, key = {"max_fee_wei": str(FEE)}, {"Idempotency-Key": "request-again"}
    again = [
        await borrower.account.request("POST", f"/v1/applications/{application['id']}/requests", json=body, headers=key) for _ in range(2)
    ]
    assert [one.status_code for one in again] == [202, 202]
    waiting = await borrower.until(application["id"], "waiting", "failed")
    assert waiting["query_digest"] == application["query_digest"]
    assert waiting["request_id"] > application["request_id"]
    await borrower.answered(waiting)
    assert (await borrower.concluded(waiting))["state"] == "quoted"


async def test_answer__that_answers_nothing__is_paid_for_and_said_to_be_unreadable(node: OwnerNode, lender: BareLender) -> None:
    deployment_id = lender.deploy(window=600)
    decision = Decision(approved=True, band=0, pd_bps=400, rate_bps=800)
    quote = Quote(decision, Timestamp(lender.clock() + 3_600))
    spoilt = {
        "garbage": "artifact",
        "of another request": "another request",
        "for another query": "another request",
        "sealed to another key": "sealed",
        "sealed for another request": "sealed",
        "a query": "not a hessian/score-answer",
    }
    borrowers = [await Borrower.at(node, lender, name) for name in spoilt]
    applications = await asyncio.gather(*(borrower.waiting(deployment_id, FEATURES) for borrower in borrowers))
    for borrower, application, (name, says) in zip(borrowers, applications, spoilt.items(), strict=True):
        query, _ = lender.opened(await borrower.query(application))
        own, other = RequestId(application["request_id"]), RequestId(application["request_id"] + 1)
        honest = ScoreAnswer.seal(lender.market, own, query.digest, query.borrower_key, quote)
        answers = {
            "garbage": b"garbage",
            "of another request": replace(honest, request_id=other).to_bytes(),
            "for another query": replace(honest, query=digest_of(b"another")).to_bytes(),
            "sealed to another key": ScoreAnswer.seal(lender.market, own, query.digest, sealing_key_pair().public, quote).to_bytes(),
            "sealed for another request": replace(
                ScoreAnswer.seal(lender.market, other, query.digest, query.borrower_key, quote), request_id=own
            ).to_bytes(),
            "a query": query.to_bytes(),
        }
        await borrower.answered(application, answers[name])
        ended = await borrower.concluded(application)
        assert (ended["state"], ended["quote"]) == ("unreadable", None), name
        assert ended["reason"].startswith("the lender was paid")
        assert says in ended["reason"], (name, ended["reason"])
        refused = await borrower.account.request("POST", f"/v1/applications/{ended['id']}/acceptance")
        assert (refused.status_code, refused.json()["title"]) == (409, "NothingToAccept")


async def test_answer__anchored_but_never_published__is_waited_for_and_then_given_up(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    application = await borrower.waiting(lender.deploy(window=WINDOW), FEATURES)
    lender.anchor(application["request_id"], digest_of(b"bytes that nobody has"))
    path = f"/v1/requests/{application['request_id']}/conclusion"
    said: list[str] = []

    async def ask() -> list[str]:
        answer = await node.api.post(path, headers=bearer("coordinator-token"))
        said.append(answer.json().get("title", answer.json().get("outcome")))
        return said

    await eventually(ask, lambda found: found[-1] == "ContentMissing")
    assert (await borrower.account.get(f"/v1/applications/{application['id']}"))["state"] == "waiting"
    lender.anvil.move_time(60)
    ended = await borrower.concluded(application)
    assert (ended["state"], "nobody has the bytes" in ended["reason"]) == ("unreadable", True)
    assert ended["answer_digest"] == "0x" + digest_of(b"bytes that nobody has").hex()


async def test_quote__that_contradicts_the_published_policy__is_shown_as_such(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    application = await borrower.waiting(lender.deploy(), FEATURES)
    query, _ = lender.opened(await borrower.query(application))
    dearer = Quote(Decision(approved=True, band=0, pd_bps=400, rate_bps=900), Timestamp(lender.clock() + 3_600))
    sealed = ScoreAnswer.seal(lender.market, RequestId(application["request_id"]), query.digest, query.borrower_key, dearer)
    await borrower.answered(application, sealed.to_bytes())
    quoted = await borrower.concluded(application)
    assert (quoted["state"], quoted["quote"]["rate_bps"]) == ("quoted", 900)
    assert "contradicts the policy" in quoted["reason"]
    path = f"/v1/applications/{quoted['id']}/acceptance"
    for body in (None, {}, {"accept_doubtful": False}):
        refused = await borrower.account.request("POST", path, json=body)
        assert (refused.status_code, refused.json()["title"]) == (409, "DoubtNotConfirmed")
        assert "contradicts the policy" in refused.json()["detail"]
        assert "accept_doubtful: true" in refused.json()["detail"]
    assert (await borrower.account.request("POST", path, json={"accept_doubtful": "true"})).status_code == 422
    assert (await borrower.account.get(f"/v1/applications/{quoted['id']}"))["state"] == "quoted"
    confirmed = await borrower.account.request("POST", path, json={"accept_doubtful": True})
    assert confirmed.json()["opening"]["features"] == {"income": "900.25", "age": "71", "region": "S"}
    assert (await borrower.account.request("POST", path)).json() == confirmed.json()  # it was confirmed, and given away


async def test_deployment__retired_between_the_application_and_its_request__costs_no_fee(node: OwnerNode, lender: BareLender) -> None:
    borrower, deployment_id = await Borrower.at(node, lender), lender.deploy()
    request = node.world.trainer.request

    async def retired_meanwhile(method: str, path: str, **options: Any) -> Any:
        answer = await request(method, path, **options)
        lender.retire(deployment_id)
        return answer

    node.world.trainer.request = retired_meanwhile  # type: ignore[method-assign]
    failed = await borrower.until(await borrower.applied(deployment_id, FEATURES), "failed", "waiting")
    assert (failed["state"], failed["request_id"]) == ("failed", None)
    assert "no fee was paid" in failed["reason"]
    assert lender.read("deployment", deployment_id)["isRetired"]
    earnings = await borrower.account.get("/v1/earnings")
    assert (earnings["balance_wei"], earnings["fees_credit_wei"]) == (str(10**18), "0")
    body, key = {"max_fee_wei": str(FEE)}, {"Idempotency-Key": "request-again"}
    again = await borrower.account.request("POST", f"/v1/applications/{failed['id']}/requests", json=body, headers=key)
    assert (again.status_code, again.json()["title"]) == (409, "DeploymentNotServing")


async def test_query__replayed_by_a_stranger__is_nobodys_here_and_opens_for_the_borrower_alone(node: OwnerNode, lender: BareLender) -> None:
    borrower, deployment_id = await Borrower.at(node, lender), lender.deploy()
    application = await borrower.waiting(deployment_id, FEATURES)
    stranger = lender.anvil.new_account()
    lender.send(stranger, "requestScore", deployment_id, digest_from_hex(application["query_digest"]), value=FEE)
    lender.anvil.mine(2)
    copied = int(lender.read("requestCount"))
    for path in ("conclusion", "expiry"):
        assert await borrower.asked(f"/v1/requests/{copied}/{path}") == ["foreign"]
    answer = lender.answer(copied, await borrower.query(application))
    await borrower.answered(application, answer)  # the lender mixes the two up
    assert (await borrower.concluded(application))["state"] == "unreadable"
    for path in ("conclusion", "expiry"):  # the chain may be quicker than this node's own outbox
        async with node.world.database.begin() as session:
            row = (await session.execute(select(Application))).scalar_one()
            row.state, row.request_id = ApplicationState.REQUESTING, None
        early = await node.api.post(f"/v1/requests/{application['request_id']}/{path}", headers=bearer("coordinator-token"))
        assert (early.status_code, early.json()["title"]) == (503, "NotFinalYet")
    unknown = await node.api.post(f"/v1/requests/{copied + 1000}/conclusion", headers=bearer("coordinator-token"))
    assert (unknown.status_code, unknown.json()["title"]) == (503, "NotFinalYet")


async def test_quote__not_accepted_in_time__holds_no_more(node: OwnerNode, lender: BareLender) -> None:
    borrower = await Borrower.at(node, lender)
    application = await borrower.waiting(lender.deploy(), FEATURES)
    await borrower.answered(application, lender.answer(application["request_id"], await borrower.query(application), valid_seconds=60))
    quoted = await borrower.concluded(application)
    assert quoted["quote"]["decision"] == "approve"
    lender.anvil.move_time(120)
    late = await borrower.account.request("POST", f"/v1/applications/{quoted['id']}/acceptance")
    assert (late.status_code, late.json()["title"]) == (409, "QuoteExpired")
    assert (await borrower.account.get(f"/v1/applications/{quoted['id']}"))["state"] == "quoted"
