"""A lender whose database is older than its last settled rounds: what chain and IPFS know comes back, and what disagrees stops it."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from lender_node import LenderNode, lender_settings, running_lender
from lender_scene import Scene, staged
from sqlalchemy import delete, select
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.postgres import SUPERUSER, Postgres
from devstack.postgres_user import bare_environment, binaries_for
from hessian.artifacts.gradient import MaskedGradient
from hessian.chain.blocks import Block, NodeAnswerInvalid
from hessian.chain.client import LARGEST_WINDOW
from hessian.chain.events import RepositoryEvent
from hessian.chain.records import ModelRecord, ModelState, RoundState
from hessian.errors import IpfsUnavailable
from hessian.identifiers import BlockNumber, ErrorUnits, RoundId, digest_from_hex, digest_of
from hessian.ipfs.store import BytesDiffer, ContentMissing
from hessian.learning.affine import descend
from hessian.learning.descent import GRID, minimiser
from hessian.settings import DatabaseSettings
from lender_api.rounds import recovery, report
from lender_api.rounds.evaluation import Step, evaluate
from lender_api.rounds.recovery import MOVED_NOTHING, WeightsDisagree, catch_up, catch_up_all
from lender_api.settings import Settings
from lender_api.tables import Model, Round, Submission, Weights
from lender_api.validation_sets.service import cells
from lender_api.world import World


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


async def settled(scene: Scene, *, spoilt: bool = False) -> RoundId:
    """A round to its end; of a spoilt one the sum does not decode."""

    async def noise(data: bytes) -> bytes:
        gradient = MaskedGradient.from_bytes(data)
        swapped = [int.from_bytes(c, "big") ** 3 % scene.manifest.public_key.n_squared for c in gradient.ciphertexts]
        return MaskedGradient.seal(scene.manifest, gradient.context, gradient.member_index, swapped).to_bytes()

    round_id = await scene.open_round()
    await scene.submit(round_id, spoil=noise if spoilt else None)
    await scene.accept_and_unlock(round_id)
    await scene.ask(f"/v1/rounds/{round_id}/evaluate")
    await scene.until(round_id, RoundState.SETTLED)
    await scene.told(round_id)
    return round_id


def postgres_tool(server: Postgres, name: str, *arguments: str) -> None:
    """One of Postgres's own programs, as the superuser."""
    login = ["--host", server.host, "--port", str(server.port), "--username", SUPERUSER, "--no-password"]
    environment = {**bare_environment(), "PGPASSWORD": server.password}
    subprocess.run([str(binaries_for(server.user) / name), *login, *arguments], env=environment, check=True)


def facts(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the chain knows of rounds."""
    return [{name: value for name, value in entry.items() if name not in ("created_at", "reason")} for entry in rounds]


async def forget_rounds(world: World) -> None:
    """As if the backup were older than the first round."""
    async with world.database.begin() as session:
        await session.execute(delete(Weights).where(Weights.version > 0))
        await session.execute(delete(Submission))
        await session.execute(delete(Round))


async def now(scene: Scene) -> tuple[Block, ModelRecord]:
    """The model at the final block."""
    world = scene.lender.world
    block = await world.chain.final_block()
    return block, await world.repository.model(scene.model_id, block)


class Watched:
    """A world whose neighbours are asked by recovery alone: what it reads, and whether a transaction is open while it waits for them."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks: list[tuple[int, int]] = []
        self.fetched = 0
        self.matrices = 0
        self.hides_events = False
        self.answer: bytes | IpfsUnavailable | None = None
        self.taken: list[int] = []
        pool = world.database.engine.pool
        assert isinstance(pool, QueuePool)
        events, request, get = world.repository.events, world.chain.node.request, world.store._get

        async def watched_events(first: BlockNumber, last: BlockNumber) -> list[RepositoryEvent]:
            self.blocks.append((first, last))
            return [] if self.hides_events else await events(first, last)

        async def watched_get(cid: str, limit: int) -> bytes:
            self.fetched += 1
            if isinstance(self.answer, IpfsUnavailable):
                raise self.answer
            return await get(cid, limit) if self.answer is None else self.answer

        async def counted(*arguments: Any) -> Any:
            self.matrices += 1
            return await cells(*arguments)

        async def asked(method: str, *parameters: Any) -> Any:
            self.taken.append(pool.checkedout())
            return await request(method, *parameters)

        monkeypatch.setattr(world.repository, "events", watched_events)
        monkeypatch.setattr(world.chain.node, "request", asked)
        monkeypatch.setattr(world.store, "_get", watched_get)
        monkeypatch.setattr(recovery, "cells", counted)


async def test_start__restored_from_before_two_rounds__they_come_back_and_the_open_round_settles(
    settings: Settings, anvil: Anvil, postgres_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, dump = make_url(settings.database_url).database or "", str(tmp_path / "older.dump")
    async with running_lender(settings, anvil) as node:
        scene = await staged(node, objective={"method": "conjugate-gradients"}, max_rounds=5)
        start = await scene.weights()
        await settled(scene)
        await asyncio.to_thread(postgres_tool, postgres_server, "pg_dump", "--format=custom", f"--file={dump}", name)
        await settled(scene)
        await settled(scene, spoilt=True)
        open_round = await scene.open_round()
        await scene.submit(open_round)
        await scene.accept_and_unlock(open_round)
        before, weights = await scene.history(), await scene.weights()
    await asyncio.to_thread(postgres_tool, postgres_server, "pg_restore", "--clean", "--exit-on-error", f"--dbname={name}", dump)

    async with running_lender(settings, anvil) as node:
        scene.lender = node
        world = node.world
        assert len(await scene.history()) == 1
        async with world.database.begin() as session:  # as if the second round had been evaluated again before its report was final
            model = (await session.execute(select(Model))).scalar_one()
            sealed = world.keys.seal_weights(model.id, digest_of(b"late"), start)
            session.add(Weights(model=model.id, version=2, digest=digest_of(b"late"), error=1, sealed_weights=sealed, content=b"late"))

        async def missing(cid: str, limit: int) -> bytes:
            raise IpfsUnavailable(f"{cid} cannot be found")

        monkeypatch.setattr(recovery, "AGAIN_SECONDS", 0.1)
        with monkeypatch.context() as outage:
            outage.setattr(world.store, "_get", missing)
            caught_up = asyncio.create_task(catch_up_all(world, asyncio.Event()))
            answer = await node.coordinator.post(f"/v1/rounds/{open_round}/evaluate")
            assert (answer.status_code, answer.json()["title"]) == (503, "IpfsUnavailable")
            assert len(await scene.history()) == 1
            assert not caught_up.done()
        await asyncio.gather(caught_up, scene.ask(f"/v1/rounds/{open_round}/evaluate"))
        after = await scene.history()
        assert facts(after[:3]) == facts(before[:3])
        assert [entry["reason"] for entry in after[:3]] == [None, None, MOVED_NOTHING]
        await scene.until(open_round, RoundState.SETTLED)
        answered = [(start, scene.opened(start))]  # the second round's gradient was in the lost database alone
        start, slope = minimiser(answered, (weights, scene.opened(weights)), scene.manifest.bounds)
        sizes = [int(multiple * scene.manifest.step) for multiple in GRID]
        assert await scene.weights() in [descend(start, slope, size, scene.manifest.bounds) for size in sizes]
        assert (await scene.history())[3]["error_before"] == before[1]["error_after"]


async def test_catch_up__chain_says_another_error_than_the_weights_give__stops_and_keeps_nothing(
    lender: LenderNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any) -> Step:
        step = evaluate(*arguments)
        return dataclasses.replace(step, error=ErrorUnits(step.error + 1))

    monkeypatch.setattr(report, "evaluate", wrong)
    scene, world = await staged(lender), lender.world
    await settled(scene)
    await forget_rounds(world)
    with pytest.raises(WeightsDisagree, match="the chain says"):
        await catch_up_all(world, asyncio.Event())
    answer = await lender.coordinator.post(f"/v1/cohorts/{scene.cohort_id}/rounds")
    assert (answer.status_code, answer.json()["title"]) == (500, "WeightsDisagree")
    assert await scene.history() == []


def windows(first: int, last: int) -> list[tuple[int, int]]:
    """The blocks in the pieces in which a node is asked for them."""
    return [(start, min(start + LARGEST_WINDOW - 1, last)) for start in range(first, last + 1, LARGEST_WINDOW)]


async def test_catch_up__neighbours_fail_one_after_the_other__each_block_is_read_once_and_nothing_else_is_held_up(
    settings: Settings, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_lender(settings, anvil) as node:
        scene = await staged(node)
        await settled(scene)
        before = await scene.history()
        await forget_rounds(node.world)
    async with running_lender(settings, anvil, workers=False) as node:
        scene.lender, world = node, node.world
        block, record = await now(scene)
        watched = Watched(world, monkeypatch)
        watched.hides_events = True
        with pytest.raises(NodeAnswerInvalid, match="fewer settled rounds"):
            await catch_up(world, scene.model_id, block, record)
        watched.hides_events = False
        watched.answer = ContentMissing("nobody has it")
        for _ in range(2):
            with pytest.raises(ContentMissing):
                await catch_up(world, scene.model_id, block, record)
        assert set(watched.taken) == {0}  # no connection to the database while the chain is waited for
        assert watched.matrices == 0

        later = await world.chain.wait_until_final(BlockNumber(block.number + 1))
        watched.answer = b"\0" * (2**20 + 1)
        calls = [catch_up(world, scene.model_id, later, record) for _ in range(3)]
        assert {type(result) for result in await asyncio.gather(*calls, return_exceptions=True)} == {BytesDiffer}
        watched.answer, watched.fetched = None, 0
        await asyncio.gather(*(catch_up(world, scene.model_id, later, record) for _ in range(3)))
        assert (watched.fetched, watched.matrices) == (1, 1)
        once = windows(world.first_block, block.number)
        assert watched.blocks == [*once, *once, *windows(block.number + 1, later.number)]
        assert facts(await scene.history()) == facts(before)


async def test_open_round__evaluated_again_while_a_report_that_moved_nothing_was_on_its_way__the_late_weights_go(
    lender: LenderNode,
) -> None:
    scene, world = await staged(lender), lender.world
    start = await scene.weights()
    round_id = await settled(scene, spoilt=True)
    (before,) = await scene.history()
    late = digest_of(b"late")
    async with world.database.begin() as session:
        row = (await session.execute(select(Round))).scalar_one()
        row.error_after, row.reason, row.report_digest, row.new_weights_digest = 1, None, digest_of(b"late report"), late
        row.sealed_gradient = world.keys.seal_gradient(round_id, start)
        sealed = world.keys.seal_weights(row.model, late, start)
        session.add(Weights(model=row.model, version=1, digest=late, error=1, sealed_weights=sealed, content=b"late"))
    await settled(scene)
    after = (await scene.history())[0]
    assert (facts([after]), after["reason"]) == (facts([before]), MOVED_NOTHING)
    assert await scene.weights() == scene.replayed(start)
    async with world.database.begin() as session:
        gradient = (await session.execute(select(Round.sealed_gradient).where(Round.round_id == round_id))).scalar_one()
    assert gradient is None  # a round that moved nothing tells nothing


async def test_catch_up__newer_weights_whose_report_is_not_settled__asks_nobody(
    lender: LenderNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, world = await staged(lender), lender.world
    start = digest_from_hex(scene.model["weights_digest"])
    await settled(scene)
    block, record = await now(scene)
    watched = Watched(world, monkeypatch)
    behind = dataclasses.replace(record, rounds_paid=0, weights_digest=start)  # as a node that is behind tells it
    too_late = dataclasses.replace(record, state=ModelState.DEFAULTED, weights_digest=start)  # as if the report had missed its window
    for known in (record, behind, too_late):
        await catch_up(world, scene.model_id, block, known)
    assert (watched.blocks, watched.fetched) == ([], 0)
