"""Differential privacy from the upload to the opened sum: noise drawn once, the same in every round, composed over releases, capped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from owner_node import Lender, Owner, OwnerNode, eventually, run_owner_node
from small_model import Rows, manifest, requirement, specification
from sqlalchemy import select

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.records import RoundState
from hessian.identifiers import ModelId
from hessian.learning.affine import gradient_map, initial_weights
from hessian.learning.statistics import SufficientStatistics
from owner_api.enrollments import secrets
from owner_api.tables import Dataset, Enrollment, NoisedStatistics, Release
from trainer.statistics import statistics_of

WINDOW: dict[str, Any] = {"submit_window": 600, "accept_window": 600, "unlock_window": 600, "evaluate_window": 600}
PARTS = [Rows(1, 300), Rows(2, 280)]


@pytest.fixture
async def node(anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path) -> AsyncIterator[tuple[OwnerNode, Lender]]:
    changes: dict[str, Any] = {"policy_epsilon_cap": Decimal(2), "policy_honest_members": 2}
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path, **changes) as running:
        yield running


async def private_round(
    here: OwnerNode, lender: Lender, cohort: int, owners: list[Owner], model: ModelManifest, weights: bytes
) -> list[int]:
    """One whole round; what it opened."""
    round_id = await lender.open_round(cohort)
    await asyncio.gather(*(here.contribute(round_id, owner, model, weights) for owner in owners))
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.ACCEPTING)
    await lender.send(lender.repository.accept_submissions(round_id))
    for owner in owners:
        assert (await here.ask("POST", f"/v1/contributions/{round_id}/{owner.address}/unlock"))["outcome"] == "done"
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.EVALUATING)
    opened = await lender.opened(round_id, model)
    await lender.report(round_id, 240_000_000)
    for owner in owners:
        assert (await here.ask("POST", f"/v1/contributions/{round_id}/{owner.address}/conclude"))["outcome"] == "done"
    return opened


async def statistics_in_use(here: OwnerNode) -> list[SufficientStatistics]:
    """Of the sealed enrolments, in order."""
    async with here.world.database.begin() as session:
        rows = (await session.execute(select(Enrollment).where(Enrollment.state == "sealed").order_by(Enrollment.number))).scalars()
        return [secrets.statistics_of(here.world.vault, row) for row in rows]


def gradient(parts: list[SufficientStatistics], model: ModelManifest) -> list[int]:
    total, plain = sum(part.rows for part in parts), initial_weights(1, 4, model.dimension, model.bounds)
    maps = [gradient_map(part, total, 16, model.bounds).at(plain) for part in parts]
    return [sum(entries) for entries in zip(*maps, strict=True)]


async def enrolled(
    here: OwnerNode, lender: Lender, owners: list[Owner], data: list[str], key: str, epsilon: int
) -> tuple[ModelId, int, ModelManifest, bytes, list[str]]:
    model_id, model, weights = await lender.create_model(requirement(epsilon), cohort_size=2, **WINDOW)
    await here.announce(model_id)
    enrollments = [await owner.enrolled(model_id, dataset, key=key) for owner, dataset in zip(owners, data, strict=True)]
    sealed = [await owner.until(one, "sealed", "refused") for owner, one in zip(owners, enrollments, strict=True)]
    assert [found["state"] for found in sealed] == ["sealed"] * 2, sealed
    return model_id, sealed[0]["cohort_id"], model, weights, enrollments


async def test_release__of_models_that_require_privacy__is_noised_once_composed_and_capped(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    owners = [await here.owner(f"private {number}") for number in range(2)]
    data = [await owner.upload(rows) for owner, rows in zip(owners, PARTS, strict=True)]
    first_id, cohort, model, weights, enrollments = await enrolled(here, lender, owners, data, "first-model", 1)

    # noised, and the same noise in every round
    exact = [statistics_of([rows.csv()], specification(), clip_norm=2 << 16) for rows in PARTS]
    released = await statistics_in_use(here)
    assert [part.rows for part in released] == [300, 280]
    assert all(noisy.gram != plain.gram and noisy.moment != plain.moment for noisy, plain in zip(released, exact, strict=True))
    first = await private_round(here, lender, cohort, owners, model, weights)
    assert first == gradient(released, model) != gradient(exact, model)
    async with here.world.database.begin() as session:
        kept = list((await session.execute(select(NoisedStatistics))).scalars())
        assert {release.noised_id for release in (await session.execute(select(Release))).scalars()} == {row.id for row in kept}
    assert len(kept) == 2

    # what the owner is told
    shown = (await owners[0].get(f"/v1/enrollments/{enrollments[0]}"))["privacy"]
    assert (shown["delta"], shown["honest_members"]) == ("0.000001", 2)
    assert 0 < Decimal(shown["epsilon_cohort"]) < Decimal(shown["epsilon_local"]) <= 1
    spent = (await owners[0].get("/v1/earnings"))["privacy"]
    assert [(one["releases"], one["epsilon_cap"]) for one in spent] == [(1, "2")]
    assert (await owners[0].get(f"/v1/models/{first_id}"))["manifest"]["privacy"] == {"epsilon": "1", "delta": "0.000001", "clip_norm": "2"}

    # the same requirement of another model: the same release, whose noise is not drawn again, in a second cohort
    await lender.send(lender.repository.close_model(first_id))
    assert (await here.ask("POST", f"/v1/cohorts/{cohort}/leave"))["outcome"] == "done"
    assert [(await owner.until(one, "closed"))["state"] for owner, one in zip(owners, enrollments, strict=True)] == ["closed"] * 2
    second_id, cohort, model, weights, enrollments = await enrolled(here, lender, owners, data, "second-model", 1)
    assert await statistics_in_use(here) == released
    assert await private_round(here, lender, cohort, owners, model, weights) == first
    assert (await owners[0].get("/v1/earnings"))["privacy"] == spent
    shown = (await owners[0].get(f"/v1/enrollments/{enrollments[0]}"))["privacy"]
    assert (shown["epsilon_cohort"], shown["honest_members"]) == (None, None)
    async with here.world.database.begin() as session:
        assert all(row.epsilon_cohort is None for row in (await session.execute(select(Enrollment))).scalars())

    # another strength is another release, with independent noise; it composes, and the next one passes the cap
    await lender.send(lender.repository.close_model(second_id))
    assert (await here.ask("POST", f"/v1/cohorts/{cohort}/leave"))["outcome"] == "done"
    for owner, one in zip(owners, enrollments, strict=True):
        await owner.until(one, "closed")
    exact_model, _, _ = await lender.create_model(cohort_size=2, **WINDOW)
    await here.announce(exact_model)
    mixed = await owners[0].enroll(exact_model, data[0], key="exact-after-noise")
    assert (mixed.status_code, mixed.json()["title"]) == (409, "PolicyObjects")
    assert "another cohort" in mixed.json()["detail"]
    refused_id, _, _ = await lender.create_model(requirement(2), cohort_size=2, **WINDOW)
    await here.announce(refused_id)
    refused = await owners[0].enroll(refused_id, data[0], key="over-the-cap")
    assert (refused.status_code, refused.json()["title"]) == (409, "PolicyObjects")
    assert "this node's cap is 2" in refused.json()["detail"]
    wider = replace(requirement(1), clip_norm=3 << 16)
    third_id, _, _ = await lender.create_model(wider, cohort_size=2, **WINDOW)
    await here.announce(third_id)
    third = await owners[0].enrolled(third_id, data[0], key="third-release")
    await owners[0].until(third, "waiting")
    async with here.world.database.begin() as session:
        own = select(NoisedStatistics).join(Dataset, Dataset.id == NoisedStatistics.dataset_id).where(Dataset.owner_id.in_([owners[0].id]))
        assert len(list((await session.execute(own)).scalars())) == 2

    # a version of the same rows has the same budget
    await owners[0].request("POST", f"/v1/enrollments/{third}/leave", headers={"Idempotency-Key": "leave-third"})
    await owners[0].until(third, "closed")
    version = await owners[0].upload(Rows(1, 310), "ten more rows")
    refused = await owners[0].enroll(refused_id, version, key="version-over-the-cap")
    assert "this node's cap is 2" in refused.json()["detail"]

    # a dataset that goes takes its statistics along, not what was given away
    assert (await owners[0].request("DELETE", f"/v1/datasets/{data[0]}")).status_code == 204
    async with here.world.database.begin() as session:
        gone = select(NoisedStatistics.sealed_statistics).join(Dataset).where(Dataset.deleted_at.is_not(None))
        assert set((await session.execute(gone)).scalars()) == {None}
    assert (await owners[0].get("/v1/earnings"))["privacy"] == spent


async def test_catalogue__noise_weaker_than_the_manifest_claims__is_not_worked_with(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    terms = await lender.terms(cohort_size=2, **WINDOW)
    boast = manifest(terms, replace(requirement(), rho=requirement().rho * 2)).to_bytes()
    model_id = await lender.anchor(terms, await lender.store.put(boast), await lender.store.put(b"weights"))
    await here.announce(model_id)
    listed = await (await here.owner("careful")).get(f"/v1/models/{model_id}")
    assert "claims epsilon 1" in listed["problem"]
    assert listed["manifest"] is None
