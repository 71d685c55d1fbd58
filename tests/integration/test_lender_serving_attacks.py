"""What strangers and cunning borrowers try at a lender's node that serves: quotes for nothing, work for nothing, places for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from bare_borrower import BareBorrower, digest_of_nothing
from lender_node import eventually
from serving_scene import BAD, FEE, GOOD, WINDOW, ServingScene, serving_lender

from devstack.anvil import Anvil
from devstack.contracts import deploy_repository, deploy_serving
from devstack.postgres import Postgres
from hessian.artifacts.score_answer import Quote, ScoreAnswer
from hessian.chain.deployment_records import RequestState
from hessian.errors import IpfsUnavailable
from hessian.identifiers import Address, Digest, RequestId, digest_from_hex
from hessian.ipfs.audit import audit
from lender_api.copies import Anchored
from lender_api.requests.answering import score_open
from lender_api.requests.history import LONGEST_MARGIN
from lender_api.requests.lookups import PLACES

MINIMUM_WINDOW = 2
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def own_chain(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Anvil]:
    """Of this file alone: its last test changes how blocks are mined."""
    node = Anvil(tmp_path_factory.mktemp("chain") / "anvil.log", block_time=0.2)
    node.start()
    yield node
    node.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres, module_database_url: str, own_chain: Anvil, block_store: str
) -> AsyncIterator[ServingScene]:
    repository = deploy_repository(own_chain, MINIMUM_WINDOW)
    contracts = repository, deploy_serving(own_chain, repository)
    folder = tmp_path_factory.mktemp("lender")
    async with serving_lender(folder, postgres_server, module_database_url, own_chain, contracts, block_store) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(serving: ServingScene) -> dict[str, Any]:
    return await serving.deployed()


async def expired(serving: ServingScene, borrower: BareBorrower, request_id: RequestId) -> None:
    """The borrower takes its fee back."""
    borrower.send(serving.lender.world.deployment.expire_request(request_id))
    await serving.until(request_id, RequestState.EXPIRED)


async def test_assess__shortly_before_the_deadline__is_too_late_before_anything_is_scored(
    serving: ServingScene, deployment: dict[str, Any], own_chain: Anvil
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    request_id = borrower.request(borrower.open_application().digest, fee=FEE)
    privately = await serving.borrower(deployment, GOOD)
    query = privately.query()
    withheld = privately.request(query.digest, fee=FEE)
    await serving.until_seen(withheld)
    assert (await serving.lender.coordinator.post(f"/v1/requests/{request_id}/answer")).status_code == 503
    own_chain.move_time(WINDOW - LONGEST_MARGIN + 20)
    late = await serving.lender.public.post(f"/v1/requests/{request_id}/assessment", json=borrower.shown())
    assert (late.status_code, late.json()["title"]) == (409, "RequestOver")
    await privately.publish(query)  # the bytes come when it suits their maker
    assert (await serving.scene.ask(f"/v1/requests/{withheld}/answer"))["outcome"] == "superseded"
    for number in (request_id, withheld):
        seen = await serving.request(number)
        assert (seen["state"], seen["score"], seen["answer_digest"]) == ("waiting", None, None)
        assert seen["reason"] == "this node came too late to answer it"


async def test_assess__scored_until_shortly_before_the_deadline__is_neither_published_nor_counted(
    serving: ServingScene, deployment: dict[str, Any], own_chain: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    request_id = borrower.request(borrower.open_application().digest, fee=FEE)

    def slow(*arguments: Any) -> Any:
        own_chain.move_time(WINDOW - LONGEST_MARGIN + 20)
        return score_open(*arguments)

    with monkeypatch.context() as load:
        load.setattr("lender_api.requests.assessment.score_open", slow)
        late = await serving.assess(request_id, borrower.shown())
    assert (late.status_code, late.json()["title"]) == (409, "RequestOver")
    stored = digest_from_hex((await serving.request(request_id))["answer_digest"])
    assert not await serving.lender.world.store.is_pinned(stored)
    own_chain.move_time(LONGEST_MARGIN)
    await expired(serving, borrower, request_id)
    borrower.values = BAD
    other = borrower.request(borrower.open_application().digest, fee=FEE)
    assert (await serving.assess(other, borrower.shown())).status_code == 202


async def test_answer__requests_whose_queries_nobody_has__leave_places_and_are_told_at_once(
    serving: ServingScene, deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    borrowers = [await serving.borrower(deployment, GOOD) for _ in range(PLACES + 1)]
    numbers = [borrower.request(digest_of_nothing(), fee=FEE) for borrower in borrowers]
    again = borrowers[0].request(digest_of_nothing(), fee=FEE)
    await serving.until_seen(again)
    hanging, ended = 0, asyncio.Event()

    async def hang(*_: object) -> bytes:
        nonlocal hanging
        hanging += 1
        await ended.wait()
        raise IpfsUnavailable

    async def ask(number: RequestId) -> httpx.Response:
        return await serving.lender.coordinator.post(f"/v1/requests/{number}/answer", timeout=60)

    async def hang_so_many(many: int) -> None:
        async def so_many() -> bool:
            return hanging == many

        await eventually(so_many)

    monkeypatch.setattr(serving.lender.world.store, "_get", hang)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(numbers[0]))
        await hang_so_many(1)
        refused = await ask(again)
        assert (refused.status_code, refused.json()["title"]) == (503, "LookupRefused")
        assert "another query of account" in refused.json()["detail"]
        for number in numbers[1:-1]:
            tasks.create_task(ask(number))
        await hang_so_many(PLACES)
        refused = await ask(numbers[-1])
        assert (refused.status_code, refused.json()["title"]) == (503, "LookupRefused")
        assert hanging == PLACES
        ended.set()


async def test_accept__openings_shown_again_and_again__are_decrypted_once(
    serving: ServingScene, deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cheat, better = await serving.borrower(deployment, BAD), await serving.borrower(deployment, GOOD)
    lying = await cheat.publish(cheat.query(ciphertext=better.ciphertext()))  # the commitment is right, the ciphertext is of other numbers
    honest = await better.publish(better.query())
    requests = cheat.request(lying, fee=FEE), better.request(honest, fee=FEE)
    for request_id in requests:
        await serving.answered(request_id)
    opened: list[int] = []
    real = type(next(iter(serving.lender.world.served.values())).private_key).decrypt

    def counting(key: Any, ciphertext: int) -> int:
        opened.append(ciphertext)
        return real(key, ciphertext)

    monkeypatch.setattr("hessian.paillier.decryption.PrivateKey.decrypt", counting)
    for request_id, opening, status in ((requests[0], cheat.opening(lying), 409), (requests[1], better.opening(honest), 200)):
        before = len(opened)
        answers = await asyncio.gather(*(serving.accept(request_id, opening) for _ in range(4)))
        answers.append(await serving.accept(request_id, opening))
        assert [answer.status_code for answer in answers] == [status] * 5
        assert len(opened) == before + 1


async def test_assess__what_this_lender_was_never_asked__costs_no_question_to_the_chain(
    serving: ServingScene, deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    borrower = await serving.borrower(deployment, GOOD)
    request_id = borrower.request(borrower.open_application().digest, fee=FEE)
    await serving.until_seen(request_id)
    asked: list[str] = []
    node = type(serving.lender.world.chain.node)
    real = node.request

    async def counting(self: Any, method: str, *parameters: Any) -> Any:
        asked.append(method)
        return await real(self, method, *parameters)

    wrong = borrower.shown() | {"salt": "0x" + "11" * 32}
    with monkeypatch.context() as counted:
        counted.setattr(node, "request", counting)
        for number, title in ((request_id, "RequestNotOurs"), (10**9, "RequestNotOurs")):
            answer = await serving.lender.public.post(f"/v1/requests/{number}/assessment", json=wrong)
            assert (answer.status_code, answer.json()["title"]) == (404, title)
        here = [method for method in asked if method != "eth_getBlockByNumber"]
    assert here == []
    assert (await serving.assess(request_id, wrong)).json()["title"] == "NotWhatWasNamed"
    assert (await serving.assess(request_id, borrower.shown())).status_code == 202


async def test_pin_audit__scoring_models_and_answers__are_put_back(serving: ServingScene, deployment: dict[str, Any]) -> None:
    world = serving.lender.world
    borrower = await serving.borrower(deployment, GOOD)
    request_id = await borrower.ask(fee=FEE)
    seen = await serving.answered(request_id)

    async def noted() -> bool:
        return bool((await serving.request(request_id))["state"] == "answered")

    await eventually(noted)
    lost = [digest_from_hex(name) for name in (deployment["scoring_digest"], seen["answer_digest"])]
    for digest in lost:
        await world.store.unpin(digest)
    assert (await audit(world.store, Anchored(world.database))).restored == 2
    assert [await world.store.is_pinned(digest) for digest in lost] == [True, True]
    assert (await borrower.quote(request_id)).decision.approved


async def test_answer__mined_after_its_deadline_and_read_all_the_same__counts_as_the_quote_of_its_account(
    serving: ServingScene, deployment: dict[str, Any], own_chain: Anvil
) -> None:
    world = serving.lender.world
    borrower = await serving.borrower(deployment, GOOD)
    digest = borrower.open_application().digest
    late = borrower.request(digest, fee=FEE)
    await serving.until_seen(late)
    await serving.lender.coordinator.post(f"/v1/requests/{late}/answer")
    own_chain.call("evm_setIntervalMining", 0)  # nothing is mined until the attacker likes it
    try:
        assert (await serving.lender.public.post(f"/v1/requests/{late}/assessment", json=borrower.shown())).status_code == 202
        quote = await read_from_the_pool(serving, borrower, late, digest)
    finally:
        own_chain.call("evm_setIntervalMining", 1)
    assert quote.decision == (await serving.plain_decision(borrower))[1]
    await expired(serving, borrower, late)
    assert await world.deployment.credit_of(Address(borrower.account.address), await world.chain.final_block()) == FEE

    assert (await serving.request(late))["state"] == "expired"
    other = await serving.borrower(deployment, BAD)
    other.account = borrower.account
    second = other.request(other.open_application().digest, fee=FEE)
    refused = await serving.assess(second, other.shown())
    assert (refused.status_code, refused.json()["title"]) == (409, "LeftUnanswered")
    assert f"request {late} of the same account got its quote" in refused.json()["detail"]

    same = borrower.request(digest, fee=FEE)  # what it knows already it may pay for
    assert (await serving.assess(same, borrower.shown())).status_code == 202
    await serving.until(same, RequestState.ANSWERED)
    assert (await borrower.quote(same)).decision == quote.decision


async def read_from_the_pool(serving: ServingScene, borrower: BareBorrower, request_id: RequestId, named: Digest) -> Quote:
    """Wait for the lender's transaction, have it mined after the deadline, where it reverts, and open what its calldata names."""
    world, anvil = serving.lender.world, serving.lender.anvil
    record = await world.deployment.request(request_id, await world.chain.final_block())
    sent: list[str] = []

    async def there() -> bool:
        pool = anvil.call("txpool_content")["pending"]
        to = world.deployment.address.lower()
        sent[:] = [one["input"] for account in pool.values() for one in account.values() if one["to"].lower() == to]
        return bool(sent)

    await eventually(there)
    anvil.call("evm_setNextBlockTimestamp", int(record.deadline) + 1)
    anvil.call("evm_mine")
    answer = ScoreAnswer.from_bytes(await world.store.get(Digest(bytes.fromhex(sent[0][-64:]))))
    return answer.open(borrower.keys.private, borrower.market, request_id, named)
