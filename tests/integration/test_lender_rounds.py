"""A lender's rounds against members on the real chain: opened, accepted, evaluated, reported; bad content, silence and repetition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bare_member import BareMember
from lender_node import LenderNode, eventually, lender_settings, running_lender
from lender_scene import staged
from sqlalchemy import update

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.gradient import MaskedGradient
from hessian.artifacts.report import RoundReport
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.records import RoundState
from hessian.errors import IpfsUnavailable
from hessian.identifiers import ModelId, digest_from_hex
from hessian.ipfs.audit import Audit, audit
from hessian.outbox.tables import TransactionState
from hessian.settings import DatabaseSettings
from lender_api.copies import Anchored
from lender_api.tables import Model


@pytest.fixture
async def lender(
    tmp_path: Path,
    database_settings: DatabaseSettings,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> AsyncIterator[LenderNode]:
    settings = lender_settings(tmp_path, database_settings, anvil, repository_contract, serving_contract, block_store)
    async with running_lender(settings, anvil) as node:
        yield node


async def test_evaluate__ipfs_fails_after_the_result_is_stored__the_retry_reports_the_very_same_bytes(
    lender: LenderNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await staged(lender)
    round_id = await scene.open_round()
    await scene.submit(round_id)
    await scene.accept_and_unlock(round_id)

    async def broken(data: bytes) -> str:
        raise IpfsUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(lender.world.store, "_put", broken)

        async def stored() -> bool:
            answer = await lender.coordinator.post(f"/v1/rounds/{round_id}/evaluate")
            return bool(answer.json().get("title") == "IpfsUnavailable")

        await eventually(stored)
    (first,) = await scene.history()
    assert first["new_weights_digest"] != first["weights_digest"]
    await scene.ask(f"/v1/rounds/{round_id}/evaluate")
    await scene.until(round_id, RoundState.SETTLED)
    chain = await lender.world.repository.model(scene.model_id, await lender.world.chain.final_block())
    assert chain.weights_digest == digest_from_hex(first["new_weights_digest"])
    assert (await scene.history())[0]["report_digest"] == first["report_digest"]


async def test_two_rounds__honest_members__equal_the_replay_and_pay_the_progress(lender: LenderNode) -> None:
    scene = await staged(lender)
    weights = await scene.weights()
    for number in (1, 2):
        round_id = await scene.open_round()
        assert (await scene.ask(f"/v1/cohorts/{scene.cohort_id}/rounds"))["outcome"] in {"pending", "done"}  # again: the same round
        await scene.submit(round_id)
        await scene.accept_and_unlock(round_id)
        answers = await asyncio.gather(*(scene.ask(f"/v1/rounds/{round_id}/evaluate") for _ in range(3)))
        assert answers == [{"outcome": "pending", "reason": None}] * 3
        await scene.until(round_id, RoundState.SETTLED)
        weights = scene.replayed(weights)
        assert await scene.weights() == weights

        async def told(expected: int = number) -> bool:
            rounds = await scene.history()
            return len(rounds) == expected and rounds[-1]["settled_at"] is not None

        await eventually(told)
    first, second = await scene.history()
    model = (await lender.admin.get(f"/v1/models/{scene.model['id']}")).json()
    assert first["error_before"] == model["initial_error"] > first["error_after"] == second["error_before"] > second["error_after"]
    assert model["best_error"] == second["error_after"]
    spent = model["initial_error"] - 1_000_000
    earned = [(10**18 * (model["initial_error"] - entry["error_after"])) // spent for entry in (first, second)]
    assert [int(entry["reward_wei"]) for entry in (first, second)] == [earned[0], earned[1] - earned[0]]
    assert all(int(entry["pool_wei"]) == int(entry["reward_wei"]) + 10**15 for entry in (first, second))
    assert (second["members"], second["rows"], second["submitted"], second["unlocked"], second["state"]) == (2, 400, 2, 2, "settled")

    world = lender.world
    chain = await world.repository.model(scene.model_id, await world.chain.final_block())
    published = EncryptedWeights.from_bytes(await world.store.get(chain.weights_digest))
    assert (published.version, published.parent) == (2, digest_from_hex(first["new_weights_digest"]))
    report = RoundReport.from_bytes(await world.store.get(digest_from_hex(second["report_digest"])))
    assert (report.new_error, report.weights) == (second["error_after"], chain.weights_digest)
    for lost in (chain.manifest_digest, chain.weights_digest, digest_from_hex(second["report_digest"])):
        await world.store.unpin(lost)
    anchored = Anchored(world.database)
    assert await audit(world.store, anchored) == Audit(checked=6, restored=3)  # a manifest, three versions of the weights, two reports
    assert all([await world.store.is_pinned(digest) for digest in await anchored.digests()])
    assert (await scene.ask(f"/v1/models/{scene.model_id}/conclude"))["outcome"] == "pending"


async def test_evaluate__target_reached__model_is_trained_and_conclude_takes_the_rest_back(lender: LenderNode) -> None:
    probe = await lender.open_model()
    scene = await staged(lender, target_error=probe["initial_error"] - 1)
    round_id = await scene.open_round()
    await scene.submit(round_id)
    await scene.accept_and_unlock(round_id)
    await scene.ask(f"/v1/rounds/{round_id}/evaluate")
    await lender.until_model(scene.model["id"], "trained")
    for _ in range(2):
        assert (await scene.ask(f"/v1/models/{scene.model_id}/conclude"))["outcome"] in {"pending", "done"}

    async def closed() -> bool:
        return bool((await lender.admin.get(f"/v1/models/{scene.model['id']}")).json()["is_closed"])

    await eventually(closed)
    model = (await lender.admin.get(f"/v1/models/{scene.model['id']}")).json()
    assert int(model["refund_wei"]) == 3 * 10**15  # the base fees of the rounds that were not needed
    assert (await scene.ask(f"/v1/cohorts/{scene.cohort_id}/rounds"))["outcome"] == "superseded"


async def test_accept__artifact_of_another_round__is_refused_and_the_reason_is_told(lender: LenderNode) -> None:
    scene = await staged(lender)
    round_id = await scene.open_round()

    async def other_round(data: bytes) -> bytes:
        gradient = MaskedGradient.from_bytes(data)
        return MaskedGradient(b"x" * 32, gradient.member_index, gradient.ciphertexts).to_bytes()

    await scene.submit(round_id, spoil=other_round)
    answer = await scene.ask(f"/v1/rounds/{round_id}/accept")
    assert answer["outcome"] == "refused"
    assert "member 1" in answer["reason"]
    assert "another round" in answer["reason"]
    assert (await scene.history())[0]["reason"] == answer["reason"]
    assert (await scene.round(round_id)).state is RoundState.ACCEPTING


async def test_accept__ciphertext_that_would_give_the_key_away__is_refused(lender: LenderNode) -> None:
    scene = await staged(lender)
    round_id = await scene.open_round()

    async def zero(data: bytes) -> bytes:
        gradient = MaskedGradient.from_bytes(data)
        poisoned = (bytes(scene.manifest.public_key.ciphertext_bytes), *gradient.ciphertexts[1:])
        return MaskedGradient(gradient.context, gradient.member_index, poisoned).to_bytes()

    await scene.submit(round_id, spoil=zero)
    assert (await scene.ask(f"/v1/rounds/{round_id}/accept"))["outcome"] == "refused"


async def test_evaluate__sum_that_does_not_decode__is_reported_as_no_improvement(lender: LenderNode) -> None:
    scene = await staged(lender)
    weights = await scene.weights()
    round_id = await scene.open_round()

    async def noise(data: bytes) -> bytes:
        gradient = MaskedGradient.from_bytes(data)
        swapped = [int.from_bytes(c, "big") ** 3 % scene.manifest.public_key.n_squared for c in gradient.ciphertexts]
        return MaskedGradient.seal(scene.manifest, gradient.context, gradient.member_index, swapped).to_bytes()

    await scene.submit(round_id, spoil=noise)
    await scene.accept_and_unlock(round_id)
    answer = await scene.ask(f"/v1/rounds/{round_id}/evaluate")
    assert answer["outcome"] == "pending"
    assert answer["reason"]
    await scene.until(round_id, RoundState.SETTLED)

    async def told() -> bool:
        return (await scene.history())[0]["settled_at"] is not None

    await eventually(told)
    (told_round,) = await scene.history()
    assert (told_round["error_after"], told_round["reward_wei"], told_round["pool_wei"]) == (told_round["error_before"], "0", str(10**15))
    assert told_round["new_weights_digest"] == told_round["weights_digest"] == scene.model["weights_digest"]
    assert await scene.weights() == weights


async def test_accept__its_transaction_failed_for_no_lasting_reason__is_sent_anew_when_asked_again(lender: LenderNode) -> None:
    scene, world = await staged(lender), lender.world
    round_id = await scene.open_round()
    await scene.submit(round_id)
    call = world.repository.accept_submissions(round_id)
    async with world.database.begin() as session:
        row = await world.outbox.enqueue(
            session,
            business_key=f"accept:{round_id}:1",
            sender=world.keys.address,
            call=call,
            purpose="accept_submissions",
            subject=str(round_id),
        )
        row.move_to(TransactionState.FAILED, "a node that lagged behind refused it")
    await scene.accept_and_unlock(round_id)
    assert (await scene.ask(f"/v1/rounds/{round_id}/accept"))["outcome"] == "done"


async def test_expire__members_silent__ends_the_round_once_its_deadline_is_final(lender: LenderNode) -> None:
    scene = await staged(lender, submit_window=2)
    round_id = await scene.open_round()
    assert (await scene.ask(f"/v1/rounds/{round_id}/expire"))["outcome"] == "pending"
    await scene.until(round_id, RoundState.FAILED)
    assert (await scene.ask(f"/v1/rounds/{round_id}/expire"))["outcome"] == "done"
    assert (await scene.ask(f"/v1/rounds/{round_id}/accept"))["outcome"] == "superseded"
    assert (await scene.ask(f"/v1/rounds/{round_id}/evaluate"))["outcome"] == "superseded"
    assert (await scene.history())[0]["state"] == "failed"


async def test_coordination__model_of_another_lender__is_foreign(lender: LenderNode) -> None:
    scene = await staged(lender)
    other = BareMember(lender.anvil, lender.world.repository, lender.world.store, "")
    record = await lender.world.repository.model(scene.model_id, await lender.world.chain.final_block())
    other.send(lender.world.repository.create_model(record.terms, record.manifest_digest, record.weights_digest))

    async def final() -> bool:
        return (await lender.world.repository.model_count(await lender.world.chain.final_block())) > scene.model_id

    await eventually(final)
    model_id = await lender.world.repository.model_count(await lender.world.chain.final_block())
    foreign = await lender.world.repository.model(ModelId(model_id), await lender.world.chain.final_block())
    assert (await scene.ask(f"/v1/models/{model_id}/conclude"))["outcome"] == "foreign"
    assert (await scene.ask(f"/v1/cohorts/{foreign.forming_cohort_id}/rounds"))["outcome"] == "foreign"
    for path, title in (
        *((f"rounds/999999/{step}", "NotYetFinal") for step in ("accept", "evaluate", "expire")),
        ("cohorts/999999/rounds", "NotYetFinal"),
        ("models/999999/conclude", "ChainUnavailable"),
    ):
        early = await lender.coordinator.post(f"/v1/{path}")  # a final block that lags by one must not cost the coordinator its job
        assert (path, early.status_code, early.json()["title"]) == (path, 503, title)


async def test_coordination__creation_not_settled_here_yet__is_asked_again_and_not_called_foreign(lender: LenderNode) -> None:
    scene = await staged(lender)
    round_id = await scene.open_round()
    await scene.submit(round_id)
    async with lender.world.database.begin() as session:
        await session.execute(update(Model).values(model_id=None, state="creating"))
    for path in (f"cohorts/{scene.cohort_id}/rounds", f"rounds/{round_id}/accept", f"models/{scene.model_id}/conclude"):
        answer = await lender.coordinator.post(f"/v1/{path}")
        assert (path, answer.status_code, answer.json().get("title")) == (path, 503, "CreationNotSettled")
    async with lender.world.database.begin() as session:
        await session.execute(update(Model).values(state="failed"))
    assert (await scene.ask(f"/v1/cohorts/{scene.cohort_id}/rounds"))["outcome"] == "foreign"
