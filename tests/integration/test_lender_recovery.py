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

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.postgres import SUPERUSER, Postgres
from devstack.postgres_user import bare_environment, binaries_for
from hessian.artifacts.gradient import MaskedGradient
from hessian.chain.records import RoundState
from hessian.errors import IpfsUnavailable
from hessian.identifiers import ErrorUnits, RoundId, digest_of
from hessian.learning.affine import descend
from hessian.learning.descent import GRID, minimiser
from hessian.settings import DatabaseSettings
from lender_api.rounds import recovery, report
from lender_api.rounds.evaluation import Step, evaluate
from lender_api.rounds.recovery import MOVED_NOTHING, WeightsDisagree, catch_up_all
from lender_api.settings import Settings
from lender_api.tables import Model, Round, Submission, Weights


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
    async with world.database.begin() as session:
        await session.execute(delete(Weights).where(Weights.version == 1))
        await session.execute(delete(Submission))
        await session.execute(delete(Round))
    with pytest.raises(WeightsDisagree, match="the chain says"):
        await catch_up_all(world, asyncio.Event())
    answer = await lender.coordinator.post(f"/v1/cohorts/{scene.cohort_id}/rounds")
    assert (answer.status_code, answer.json()["title"]) == (500, "WeightsDisagree")
    assert await scene.history() == []
