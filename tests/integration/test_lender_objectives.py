"""Rounds under other objectives than the default: what the chain and IPFS show equals a replay in the clear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lender_node import LenderNode, eventually, lender_settings, loans, running_lender
from lender_scene import Scene, staged

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.report import RoundReport
from hessian.chain.records import RoundState
from hessian.identifiers import digest_from_hex
from hessian.learning.affine import descend, settle
from hessian.learning.descent import Answered, minimiser
from hessian.settings import DatabaseSettings


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


async def round_settled(scene: Scene) -> int:
    """One honest round; the step that its report names."""
    before = len(await scene.history())
    round_id = await scene.open_round()
    await scene.submit(round_id)
    await scene.accept_and_unlock(round_id)
    await scene.ask(f"/v1/rounds/{round_id}/evaluate")
    await scene.until(round_id, RoundState.SETTLED)

    async def told() -> bool:
        rounds = await scene.history()
        return len(rounds) == before + 1 and rounds[-1]["settled_at"] is not None

    await eventually(told)
    digest = (await scene.history())[-1]["report_digest"]
    return RoundReport.from_bytes(await scene.lender.world.store.get(digest_from_hex(digest))).step


async def test_rounds__conjugate_gradients_on_log_odds_with_ridge__go_on_from_what_the_cohort_answered(lender: LenderNode) -> None:
    objective: dict[str, Any] = {"loss": "logistic-taylor1", "ridge": "0.01", "method": "conjugate-gradients"}
    scene = await staged(lender, objective=objective)
    bounds = scene.manifest.bounds
    answered: list[Answered] = []
    for _ in range(3):
        weights = await scene.weights()
        newest = (weights, scene.opened(weights))
        start, slope = minimiser(answered, newest, bounds)
        size = await round_settled(scene)
        assert await scene.weights() == descend(start, slope, size, bounds)
        answered.append(newest)
    errors = [entry["error_after"] for entry in await scene.history()]
    assert max(errors) < scene.model["initial_error"]


async def test_rounds__several_local_steps__open_the_new_weights_themselves(lender: LenderNode) -> None:
    scene = await staged(lender, objective={"local_steps": 20})
    for _ in range(2):
        weights = await scene.weights()
        assert await round_settled(scene) == scene.manifest.step
        assert await scene.weights() == settle(scene.opened(weights), scene.manifest.bounds)
    first, second = await scene.history()
    assert first["error_before"] > max(first["error_after"], second["error_after"])


async def test_create_model__local_steps_with_a_gradient_method__is_refused_with_a_sentence(lender: LenderNode) -> None:
    uploaded = (await lender.upload(loans(200, seed=1))).json()
    answer = await lender.post_model(await lender.wish(uploaded["id"], objective={"local_steps": 2, "method": "grid"}))

    assert answer.status_code == 422
    assert "the method must be 'fixed'" in answer.json()["detail"]
