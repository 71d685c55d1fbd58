"""Silence costs a bond: what others, a lagging Ethereum node or a slow relay do to this node must not make it silent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from owner_node import Lender, Owner, OwnerNode, b64, bearer, eventually, run_owner_node
from small_model import Rows, manifest
from sqlalchemy import func, select, update

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.encoding import ContractRefused
from hessian.chain.records import CohortRecord, RoundState
from hessian.cohorts.masks import masking_key_pair
from hessian.identifiers import Address, ModelId
from owner_api.contributions.rounds import NotFinalYet
from owner_api.enrollments.following import follow
from owner_api.tables import Enrollment, OutgoingTransaction

WINDOW: dict[str, Any] = {"submit_window": 600, "accept_window": 600, "unlock_window": 600, "evaluate_window": 600}
BOND = 10**16
Node = tuple[OwnerNode, Lender]


@pytest.fixture
async def node(anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path) -> AsyncIterator[Node]:
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path) as running:
        yield running


async def waiting_members(here: OwnerNode, model_id: ModelId, count: int) -> list[tuple[Owner, str]]:
    """Owners with an enrolment whose join is final."""
    await here.announce(model_id)
    owners = [await here.owner(f"owner {number}") for number in range(count)]
    members = [(owner, await owner.enrolled(model_id, await owner.upload(Rows(seed, 40)))) for seed, owner in enumerate(owners, 1)]
    for owner, enrollment in members:
        await owner.until(enrollment, "waiting", "sealed")
    return members


async def take_the_last_seat(lender: Lender, model_id: ModelId, key: Callable[[CohortRecord], bytes]) -> None:
    head = await lender.chain.head_block()
    model = await lender.repository.model(model_id, head)
    cohort = await lender.repository.cohort(model.forming_cohort_id, head)
    await lender.send(lender.repository.join(model_id, model.forming_cohort_id, key(cohort), 40, bond=model.terms.member_bond))


def low_order(_cohort: CohortRecord) -> bytes:
    """The point (1, …): X25519 of it is zero, whatever the private key."""
    return (1).to_bytes(32, "little")


def second_encoding(cohort: CohortRecord) -> bytes:
    """The first member's own point, its ignored bit flipped."""
    key = bytearray(cohort.members[0].masking_key)
    key[31] ^= 0x80
    return bytes(key)


async def refuse_estimates(monkeypatch: pytest.MonkeyPatch, here: OwnerNode, sender: Address) -> list[str]:
    """The Ethereum node answers each new call of `sender` once as a replica that lags behind would. Returns the calls it refused."""
    ask, refused = here.world.chain.node.request, list[str]()

    async def lagging(method: str, *parameters: Any) -> Any:
        if method == "eth_estimateGas" and parameters[0]["from"] == sender and parameters[0]["data"] not in refused:
            refused.append(parameters[0]["data"])
            raise ContractRefused("ModelRepository_RoundNotIn", {"roundId": 1})
        return await ask(method, *parameters)

    monkeypatch.setattr(here.world.chain.node, "request", lagging)
    return refused


async def credit(owner: Owner) -> int:
    return int((await owner.get("/v1/earnings"))["credit_wei"])


@pytest.mark.parametrize("key", [low_order, second_encoding])
async def test_seal__a_key_that_nobody_can_compute_with__every_honest_member_leaves_with_its_bond(
    node: Node, key: Callable[[CohortRecord], bytes]
) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=3, **WINDOW)
    members = await waiting_members(here, model_id, 2)
    await take_the_last_seat(lender, model_id, key)
    for owner, enrollment in members:
        await owner.until(enrollment, "closed")
        assert await credit(owner) == BOND


async def test_join__cohort_that_holds_such_a_key_already__is_refused(node: Node) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=3, **WINDOW)
    await take_the_last_seat(lender, model_id, low_order)
    await here.announce(model_id)
    owner = await here.owner("careful")
    found = await owner.until(await owner.enrolled(model_id, await owner.upload(Rows(1, 40))), "refused", "waiting")
    assert found["state"] == "refused"
    assert "masking key" in found["reason"]


async def model_with_garbage(lender: Lender) -> tuple[ModelId, ModelManifest, bytes]:
    terms = await lender.terms(cohort_size=3, **WINDOW)
    of, weights = manifest(terms), b"no weights at all"
    await lender.store.put(of.to_bytes())
    return await lender.anchor(terms, of.digest, await lender.store.put(weights)), of, weights


async def test_abandon__weights_are_garbage_and_the_ethereum_node_lags__leaves_and_costs_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, lender = node
    model_id, of, weights = await model_with_garbage(lender)
    members = await waiting_members(here, model_id, 2)
    await take_the_last_seat(lender, model_id, lambda _: masking_key_pair().public)
    (owner, enrollment), (other, _) = members
    cohort = (await owner.until(enrollment, "sealed"))["cohort_id"]
    round_id = await lender.open_round(cohort)
    ticket = (await here.ask("POST", "/v1/contributions", json={"round_id": round_id, "member": owner.address}))["ticket"]
    body = {"ticket": ticket, "manifest": b64(of.to_bytes()), "weights": b64(weights)}
    computed = await here.trainer.post("/v1/gradient-steps", json=body, headers=bearer("coordinator-token"))
    assert (computed.status_code, computed.json()["title"]) == (422, "JobRefused")

    refused = await refuse_estimates(monkeypatch, here, owner.address)

    async def abandon() -> Any:
        path, body = f"/v1/contributions/{round_id}/{owner.address}/abandon", {"reason": "its contribution was set aside"}
        return (await here.api.post(path, json=body, headers=bearer("coordinator-token"))).json()

    assert (await abandon())["title"] == "NotFinalYet"
    done = await eventually(abandon, lambda answer: "outcome" in answer)
    assert (done["outcome"], len(refused)) == ("superseded", 1)
    assert (await lender.round(round_id)).state is RoundState.FAILED
    for one in (owner, other):
        assert await credit(one) == BOND
    assert (await abandon())["outcome"] == "superseded"


async def test_abandon__a_submission_is_on_its_way__does_nothing(node: Node) -> None:
    here, lender = node
    model_id, of, weights = await lender.create_model(cohort_size=2, **WINDOW)
    (owner, enrollment), (other, _) = await waiting_members(here, model_id, 2)
    round_id = await lender.open_round((await owner.until(enrollment, "sealed"))["cohort_id"])
    await here.contribute(round_id, owner, of, weights)
    for member, outcome in ((owner.address, "done"), ("0x" + "52" * 20, "foreign")):
        body = {"reason": "less than a third of the submit window is left"}
        assert (await here.ask("POST", f"/v1/contributions/{round_id}/{member}/abandon", json=body))["outcome"] == outcome
    await here.contribute(round_id, other, of, weights)
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.ACCEPTING)
    async with here.world.database.begin() as session:
        leaves = select(func.count()).select_from(OutgoingTransaction).where(OutgoingTransaction.purpose == "leave")
        assert (await session.execute(leaves)).scalar_one() == 0


async def test_sending__preflight_fails_on_a_node_that_lags__the_same_is_sent_again_and_no_seed_stays_behind(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, lender = node
    model_id, of, weights = await lender.create_model(cohort_size=2, **WINDOW)
    (owner, enrollment), (other, _) = await waiting_members(here, model_id, 2)
    round_id = await lender.open_round((await owner.until(enrollment, "sealed"))["cohort_id"])
    refused = await refuse_estimates(monkeypatch, here, owner.address)
    for one in (owner, other):
        await here.contribute(round_id, one, of, weights)
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.ACCEPTING)
    await lender.send(lender.repository.accept_submissions(round_id))
    for one in (owner, other):
        assert (await here.ask("POST", f"/v1/contributions/{round_id}/{one.address}/unlock"))["outcome"] == "done"
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.EVALUATING)
    assert len(refused) == 2
    async with here.world.database.begin() as session:
        mine = select(OutgoingTransaction).where(
            OutgoingTransaction.sender == owner.address, OutgoingTransaction.purpose.in_(["submit", "unlock"])
        )
        rows = list((await session.execute(mine.order_by(OutgoingTransaction.id))).scalars())
    assert [(row.purpose, row.business_key.rpartition(":")[2]) for row in rows] == [
        ("submit", "1"), ("submit", "2"), ("unlock", "1"), ("unlock", "2")
    ]  # fmt: skip
    assert rows[0].data == rows[1].data
    assert (rows[2].data, rows[2].raw) == (b"", None)
    seed = (await lender.round(round_id)).submissions[(await owner.get(f"/v1/enrollments/{enrollment}"))["member_index"]].seed
    assert seed in rows[3].data


async def sent_for(here: OwnerNode, purpose: str) -> list[OutgoingTransaction]:
    async with here.world.database.begin() as session:
        mine = select(OutgoingTransaction).where(OutgoingTransaction.purpose == purpose)
        return list((await session.execute(mine.order_by(OutgoingTransaction.id))).scalars())


async def test_expire__preflight_fails_on_a_node_that_lags__another_wallet_ends_the_round(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=2, **WINDOW | {"submit_window": 2})
    (owner, enrollment), (other, _) = await waiting_members(here, model_id, 2)
    refused = await refuse_estimates(monkeypatch, here, owner.address)
    round_id = await lender.open_round((await owner.until(enrollment, "sealed"))["cohort_id"])
    await here.expire(round_id)
    assert (await lender.round(round_id)).state is RoundState.FAILED
    assert len(refused) == 1

    async def outcomes() -> list[tuple[Address, str]]:
        return [(row.sender, row.state.value) for row in await sent_for(here, "expire")]

    await eventually(outcomes, lambda found: found == [(owner.address, "failed"), (other.address, "final")])


@pytest.mark.parametrize("cohort_size", [2, 3])
async def test_model_ended__nobody_asks_to_leave_and_the_first_leave_fails__every_bond_comes_back(
    node: Node, monkeypatch: pytest.MonkeyPatch, cohort_size: int
) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=cohort_size, **WINDOW)
    members = await waiting_members(here, model_id, 2)
    refused = await refuse_estimates(monkeypatch, here, members[0][0].address)
    await lender.send(lender.repository.close_model(model_id))
    for owner, enrollment in members:
        await owner.until(enrollment, "closed")
        assert await credit(owner) == BOND
    assert len(refused) == 1
    assert len(await sent_for(here, "leave")) == (2 if cohort_size == 2 else 3)


async def test_follow__a_final_block_older_than_the_join__changes_nothing(node: Node) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=2, **WINDOW)
    old = await lender.chain.final_block()
    ((_, enrollment),) = await waiting_members(here, model_id, 1)
    async with here.world.database.begin() as session:
        row = (await session.execute(select(Enrollment).with_for_update())).scalar_one()
        with pytest.raises(NotFinalYet):
            await follow(session, here.world, row, old)
        assert (str(row.id), row.state) == (enrollment, "waiting")
        assert row.sealed_statistics is not None


async def test_contribution__join_is_final_but_not_booked_yet__is_asked_for_again(node: Node) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=2, **WINDOW)
    (owner, enrollment), _ = await waiting_members(here, model_id, 2)
    round_id = await lender.open_round((await owner.until(enrollment, "sealed"))["cohort_id"])
    async with here.world.database.begin() as session:
        await session.execute(
            update(Enrollment).where(Enrollment.id == enrollment).values(state="joining", next_try_at=func.now() + func.make_interval(1))
        )
    body = {"round_id": round_id, "member": owner.address}
    answer = await here.api.post("/v1/contributions", json=body, headers=bearer("coordinator-token"))
    assert (answer.status_code, answer.json()["title"]) == (503, "NotFinalYet")
