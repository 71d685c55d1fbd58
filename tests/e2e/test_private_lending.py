"""Borrowers against a lender that need not be honest, through all real services: what each failure costs, and that it ends by itself.

The lender is a bare key with a trained model on the stack's own contracts: it answers, or does not, as the test wants. Nobody here tells
owner-api that a request has ended: the coordinator finds out from the chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from bare_lender import FEE, BareLender
from small_model import KEY_BITS
from whole_stack import SETTINGS, eventually

from devstack.anvil import ChainCallFailed
from devstack.demo.parties import Borrower, RequestRefused, Rest
from devstack.services import SERVICES
from devstack.stack import DATABASE, Stack
from hessian.artifacts.score_answer import ScoreAnswer
from hessian.identifiers import RequestId, Timestamp, Wei, digest_from_hex, digest_of
from hessian.ipfs.cid import cid_of
from hessian.ipfs.kubo import connect_store
from hessian.lending.sealing import sealing_key_pair

WINDOW = 600
SAFE: dict[str, Any] = {"income": 735.975317, "age": 71.25, "region": "canary-region-name"}
NEEDLES = (b"735.975317", b"71.25", b"canary-region-name")


@dataclass(repr=False)
class Scene:
    """A running stack, a lender beside it, and the borrowers of its node."""

    stack: Stack
    lender: BareLender
    closing: ExitStack

    def borrower(self, name: str) -> Borrower:
        """A new account of the node, with ether."""
        with Rest(self.stack.url("owner-api"), self.stack.token("admin")) as admin:
            borrower = self.closing.enter_context(Borrower(self.stack.url("owner-api"), admin.post("/v1/owners", {"name": name})))
        self.stack.anvil.fund(borrower.address, Wei(10**18))
        return borrower

    def applied(self, name: str, deployment_id: int, features: dict[str, Any] = SAFE) -> Borrower:
        """A borrower that has applied."""
        borrower = self.borrower(name)
        borrower.apply(deployment_id, features, FEE)
        return borrower

    def until(self, borrower: Borrower, state: str) -> dict[str, Any]:
        """Its application, once it is in this state."""

        def read() -> dict[str, Any]:
            found = borrower.application()
            assert found["state"] == state or found["state"] != "failed", found["reason"]
            return found

        return eventually(read, lambda found: found["state"] == state)

    def query(self, application: dict[str, Any]) -> bytes:
        """What an application has published."""
        with httpx.Client(base_url=self.stack.url("block-store"), timeout=30.0, trust_env=False) as store:
            return store.post("/api/v0/cat", params={"arg": cid_of(digest_from_hex(application["query_digest"]))}).content

    def answered(self, application: dict[str, Any], answer: bytes | None = None) -> None:
        """The lender publishes and anchors an answer, an honest one unless told otherwise."""
        data = self.lender.answer(application["request_id"], self.query(application)) if answer is None else answer
        self.publish(data)
        self.lender.anchor(application["request_id"], digest_of(data))

    def publish(self, *contents: bytes) -> None:
        """Put content into the block store."""

        async def put() -> None:
            async with connect_store(self.stack.url("block-store")) as store:
                await self.lender.publish(store, *contents)

        asyncio.run(put())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Scene]:
    settings = SETTINGS | {"minimum_key_bits": str(KEY_BITS), "borrowing_answer_seconds": "0", "application_poll_seconds": "0.5"}
    with (
        Stack(tmp_path_factory.mktemp("lending") / "stack", kept=False, block_time=0.2, settings=settings) as stack,
        ExitStack() as closing,
    ):
        stack.start()
        assert stack.repository is not None
        assert stack.serving is not None
        scene = Scene(stack, BareLender(stack.anvil, stack.repository, stack.serving), closing)
        scene.publish()
        yield scene
    stack.postgres.delete()


def test_apply__on_either_side_of_the_cutoff__is_decided_as_in_the_clear(scene: Scene) -> None:
    deployment_id = scene.lender.deploy(window=WINDOW)
    edge = [{"income": cents / 100, "age": 33, "region": "N"} for cents in _around_the_cutoff(scene.lender)]
    borrowers = [scene.applied(f"edge {number}", deployment_id, features) for number, features in enumerate(edge)]
    for borrower in borrowers:
        scene.answered(scene.until(borrower, "waiting"))
    quotes = [scene.until(borrower, "quoted")["quote"] for borrower in borrowers]
    clear = [scene.lender.decision({name: str(value) for name, value in features.items()}) for features in edge]
    assert [(quote["decision"], quote["pd_bps"], quote["rate_bps"]) for quote in quotes] == [
        ("approve", clear[0].pd_bps, clear[0].rate_bps),
        ("decline", clear[1].pd_bps, None),
    ]
    assert (clear[0].approved, clear[1].approved) == (True, False)


def test_request__refused_by_the_contract__costs_nothing(scene: Scene) -> None:
    """The fee too low, the deployment retired: on chain for anybody, and at the borrower's node before it signs."""
    deployment_id, stranger = scene.lender.deploy(window=WINDOW), scene.stack.anvil.new_account()
    borrower = scene.borrower("refused")
    with pytest.raises(ChainCallFailed):
        scene.lender.send(stranger, "requestScore", deployment_id, digest_of(b"query"), value=FEE - 1)
    with pytest.raises(RequestRefused, match="409 the fee is"):
        borrower.apply(deployment_id, SAFE, Wei(FEE - 1))
    scene.lender.retire(deployment_id)
    with pytest.raises(ChainCallFailed):
        scene.lender.send(stranger, "requestScore", deployment_id, digest_of(b"query"), value=FEE)
    with pytest.raises(RequestRefused, match=r"409 .*retired"):
        borrower.apply(deployment_id, SAFE, FEE)
    assert borrower.get("/v1/applications")["items"] == []
    assert borrower.get("/v1/earnings")["balance_wei"] == str(10**18)


def test_application__node_killed_right_after_taking_it__is_sent_once(scene: Scene) -> None:
    deployment_id = scene.lender.deploy(window=WINDOW)
    requests, borrower = int(scene.lender.read("requestCount")), scene.borrower("interrupted")
    borrower.apply(deployment_id, SAFE, FEE)
    service = next(one for one in SERVICES if one.name == "owner-api")
    process = scene.stack.services["owner-api"].process
    assert process is not None
    process.kill()
    process.wait()
    scene.stack.start_service(service)
    scene.stack.wait_for(service)
    scene.answered(scene.until(borrower, "waiting"))
    assert scene.until(borrower, "quoted")["quote"]["decision"] == "approve"
    assert int(scene.lender.read("requestCount")) == requests + 1


def test_query__replayed_by_a_stranger__leaves_the_borrowers_own_answer_alone(scene: Scene) -> None:
    deployment_id, stranger = scene.lender.deploy(window=WINDOW), scene.stack.anvil.new_account()
    borrower = scene.applied("copied", deployment_id)
    application = scene.until(borrower, "waiting")
    scene.lender.send(stranger, "requestScore", deployment_id, digest_from_hex(application["query_digest"]), value=FEE)
    copied = int(scene.lender.read("requestCount"))
    scene.answered(application | {"request_id": copied})
    scene.answered(application)
    assert scene.until(borrower, "quoted")["quote"]["decision"] == "approve"
    with Rest(scene.stack.url("coordinator"), scene.stack.token("admin")) as coordinator:
        read = eventually(lambda: coordinator.get("/v1/jobs", state="foreign"), lambda page: bool(page["items"]))
        assert {job["kind"] for job in read["items"]} >= {"read_answer"}


def test_answers__that_answer_nothing__end_as_unreadable_by_themselves(scene: Scene) -> None:
    deployment_id = scene.lender.deploy(window=WINDOW)
    garbage, stolen, missing = [scene.applied(name, deployment_id) for name in ("garbage", "stolen", "missing")]
    scene.answered(scene.until(garbage, "waiting"), b"garbage")
    waiting = scene.until(stolen, "waiting")
    request_id, query = RequestId(waiting["request_id"]), digest_from_hex(waiting["query_digest"])
    quote = scene.lender.quote({name: str(value) for name, value in SAFE.items()}, Timestamp(scene.lender.clock() + 3_600))
    scene.answered(waiting, ScoreAnswer.seal(scene.lender.market, request_id, query, sealing_key_pair().public, quote).to_bytes())
    scene.lender.anchor(scene.until(missing, "waiting")["request_id"], digest_of(b"bytes that nobody has"))
    scene.stack.anvil.move_time(WINDOW + 1)
    for borrower in (garbage, stolen, missing):
        ended = scene.until(borrower, "unreadable")
        assert (ended["quote"], ended["reason"].startswith("the lender was paid")) == (None, True)
        with pytest.raises(RequestRefused, match=r"409 .*no quote"):
            borrower.post(f"/v1/applications/{ended['id']}/acceptance")


def test_request__never_answered__comes_back_to_the_wallet(scene: Scene) -> None:
    borrower = scene.applied("patient", scene.lender.deploy(window=WINDOW))
    scene.until(borrower, "waiting")
    scene.stack.anvil.move_time(WINDOW + 1)
    assert [one["purpose"] for one in scene.until(borrower, "expired")["transactions"]] == ["request-score", "expire-request"]
    before = borrower.get("/v1/earnings")
    assert before["fees_credit_wei"] == str(FEE)
    withdrawal = borrower.post("/v1/withdrawals?contract=deployment")["id"]
    done = eventually(lambda: borrower.get(f"/v1/withdrawals/{withdrawal}"), lambda found: found["state"] == "final")
    assert done["amount_wei"] == str(FEE)
    after = borrower.get("/v1/earnings")
    assert int(before["balance_wei"]) + FEE - 10**15 < int(after["balance_wei"]) < int(before["balance_wei"]) + FEE


def test_quote__never_opened__binds_nobody_and_the_lender_keeps_its_fee(scene: Scene) -> None:
    borrower = scene.applied("a borrower's name", scene.lender.deploy(window=WINDOW))
    owed = int(scene.lender.read("creditOf", scene.lender.account.address))
    scene.answered(scene.until(borrower, "waiting"))
    quoted = scene.until(borrower, "quoted")
    scene.stack.anvil.move_time(3_601)
    with pytest.raises(RequestRefused, match="409 the quote held until"):
        borrower.post(f"/v1/applications/{quoted['id']}/acceptance")
    assert borrower.application()["state"] == "quoted"
    assert int(scene.lender.read("creditOf", scene.lender.account.address)) == owed + FEE


def test_features__of_all_these_borrowers__lie_nowhere_in_clear(scene: Scene) -> None:
    """Runs last: logs, blocks, the node's files and the whole database of the stack."""
    with scene.stack.postgres.connect(DATABASE) as connection:
        connection.execute("CHECKPOINT")
    places = [scene.stack.directory / "logs", scene.stack.directory / "blocks", scene.stack.postgres.data]
    in_the_open = 0
    for file in (file for place in places for file in place.rglob("*") if file.is_file()):
        content = file.read_bytes()
        in_the_open += b"a borrower's name" in content
        assert [needle for needle in NEEDLES if needle in content] == [], file
    assert in_the_open > 0


def _around_the_cutoff(lender: BareLender) -> tuple[int, int]:
    """The incomes in cents between which the decision changes."""
    approved, declined = 0, 10_000_00
    while declined - approved > 1:
        middle = (approved + declined) // 2
        if lender.decision({"income": f"{middle / 100}", "age": "33", "region": "N"}).approved:
            approved = middle
        else:
            declined = middle
    return approved, declined
