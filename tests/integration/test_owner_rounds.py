"""Enrolments and rounds of an owner's node against the real contract: from the upload to the withdrawal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from exposition import declared, scrape
from owner_node import Lender, OwnerNode, bearer, eventually, run_owner_node
from small_model import Rows, manifest, specification
from sqlalchemy import select

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.chain.records import RoundState
from hessian.identifiers import ModelId
from hessian.ipfs.audit import Audit, audit
from hessian.learning.affine import gradient_map, initial_weights
from hessian.service import outbox_metrics
from owner_api import metrics
from owner_api.copies import Anchored
from owner_api.tables import Contribution, Enrollment, Release
from trainer.statistics import statistics_of

WINDOW: dict[str, Any] = {"submit_window": 600, "accept_window": 600, "unlock_window": 600, "evaluate_window": 600}


@pytest.fixture
async def node(anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path) -> AsyncIterator[tuple[OwnerNode, Lender]]:
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path) as running:
        yield running


async def test_round__of_three_owners__opens_to_the_pooled_gradient_and_pays(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    model_id, model, weights = await lender.create_model(cohort_size=3, **WINDOW)
    await here.announce(model_id)
    owners = [await here.owner(f"owner {number}") for number in range(3)]
    parts = [Rows(seed, count) for seed, count in ((1, 40), (2, 55), (3, 33))]
    datasets = await asyncio.gather(*(owner.upload(rows) for owner, rows in zip(owners, parts, strict=True)))
    enrollments = await asyncio.gather(*(owner.enrolled(model_id, data) for owner, data in zip(owners, datasets, strict=True)))
    sealed = [await owner.until(enrollment, "sealed") for owner, enrollment in zip(owners, enrollments, strict=True)]
    assert {found["members"] for found in sealed} == {"3/3"}
    assert sorted(found["member_index"] for found in sealed) == [0, 1, 2]

    cohort = sealed[0]["cohort_id"]
    round_id = await lender.open_round(cohort)
    await asyncio.gather(*(here.contribute(round_id, owner, model, weights) for owner in owners))
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.ACCEPTING)
    early = await here.api.post(f"/v1/contributions/{round_id}/{owners[0].address}/unlock", headers=bearer("coordinator-token"))
    assert (early.status_code, early.json()["title"]) == (409, "RoundNotUnlocking")
    await lender.send(lender.repository.accept_submissions(round_id))
    for owner in owners:
        assert (await here.ask("POST", f"/v1/contributions/{round_id}/{owner.address}/unlock"))["outcome"] == "done"
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.EVALUATING)

    plain = initial_weights(1, 4, model.dimension, model.bounds)
    total = sum(rows.count for rows in parts)
    maps = [gradient_map(statistics_of([rows.csv()], specification()), total, 16, model.bounds).at(plain) for rows in parts]
    assert await lender.opened(round_id, model) == [sum(entries) for entries in zip(*maps, strict=True)]

    await lender.report(round_id, 240_000_000)
    before = [await owner.get("/v1/earnings") for owner in owners]
    for owner in owners:
        for _ in range(2):
            assert (await here.ask("POST", f"/v1/contributions/{round_id}/{owner.address}/conclude"))["outcome"] == "done"
    after = [await owner.get("/v1/earnings") for owner in owners]
    pool = (10**18 * 10_000_000 // 50_000_000) + 10**15
    assert sum(int(found["earned_wei"]) for found in after) == sum(int(found["credit_wei"]) for found in before) == pool
    assert [int(found["earned_wei"]) for found in after] == [int(found["credit_wei"]) for found in after]
    read = await scrape(metrics.reads(here.world))
    assert declared(metrics, outbox_metrics) <= read.names
    assert (read.value("contributions", state="settled"), read.value("earned_wei")) == (3, float(pool))
    assert read.value("signer_nonce") == read.value("tx_intents", state="final") == 9
    read.require_impersonal()
    contribution = (await owners[0].get("/v1/contributions"))["items"][0]
    assert (contribution["state"], contribution["round_id"]) == ("settled", round_id)
    async with here.world.database.begin() as session:
        assert all(row.sealed_seed is None for row in (await session.execute(select(Contribution))).scalars())
        assert len(list((await session.execute(select(Release))).scalars())) == 3
    anchored = Anchored(here.world.database)
    for lost in await anchored.digests():
        await here.world.store.unpin(lost)
    assert await audit(here.world.store, anchored) == Audit(checked=3, restored=3)
    assert all([await here.world.store.is_pinned(digest) for digest in await anchored.digests()])

    answer = await owners[0].request("POST", "/v1/withdrawals", headers={"Idempotency-Key": "withdraw-1"})
    again = await owners[0].request("POST", "/v1/withdrawals", headers={"Idempotency-Key": "withdraw-1"})
    assert (answer.status_code, answer.json()) == (202, again.json())
    done = await eventually(lambda: owners[0].get(f"/v1/withdrawals/{answer.json()['id']}"), lambda found: found["state"] == "final")
    assert done["amount_wei"] == after[0]["credit_wei"]
    assert (await owners[0].get("/v1/earnings"))["credit_wei"] == "0"
    empty = await owners[0].request("POST", "/v1/withdrawals", headers={"Idempotency-Key": "withdraw-2"})
    assert (empty.status_code, empty.json()["title"]) == (409, "NothingToWithdraw")

    await lender.send(lender.repository.close_model(model_id))
    assert (await here.ask("POST", f"/v1/cohorts/{cohort}/leave"))["outcome"] == "done"
    closed = [await owner.until(enrollment, "closed") for owner, enrollment in zip(owners, enrollments, strict=True)]
    assert len(closed) == 3
    async with here.world.database.begin() as session:
        rows = list((await session.execute(select(Enrollment))).scalars())
        assert all(row.sealed_statistics is None and row.sealed_masking_secret is None for row in rows)
    other, _, _ = await lender.create_model(cohort_size=3, **WINDOW)
    for key, dataset in (("same-rows", datasets[0]), ("deleted-and-back", "")):
        if not dataset:
            assert (await owners[0].request("DELETE", f"/v1/datasets/{datasets[0]}")).status_code == 204
            dataset = await owners[0].upload(Rows(1, 60), "with newcomers")
        spent = await owners[0].enroll(other, dataset, key=key)
        assert (spent.status_code, spent.json()["title"]) == (409, "PolicyObjects")
        assert "another cohort" in spent.json()["detail"]
    credits = [int((await owner.get("/v1/earnings"))["credit_wei"]) for owner in owners]
    assert credits[0] == 10**16  # the bond; the others have their rewards beside it
    assert sum(credits) == 3 * 10**16 + sum(int(found["earned_wei"]) for found in after[1:])


async def test_join__cohort_sealed_by_somebody_else__is_repeated_with_a_fresh_key_in_the_next_cohort(
    node: tuple[OwnerNode, Lender],
) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=1, **WINDOW)
    await here.announce(model_id)
    owners = [await here.owner(f"alone {number}") for number in range(3)]
    datasets = [await owner.upload(Rows(number, 30)) for number, owner in enumerate(owners)]
    refused = await owners[0].enroll(model_id, datasets[0], key="without-consent")
    assert (refused.status_code, refused.json()["title"]) == (409, "AloneNotConfirmed")
    assert "the lender" in refused.json()["detail"]
    enrollments = await asyncio.gather(
        *(owner.enrolled(model_id, data, accept_alone=True) for owner, data in zip(owners, datasets, strict=True))
    )
    sealed = [await owner.until(enrollment, "sealed", "refused") for owner, enrollment in zip(owners, enrollments, strict=True)]
    assert [found["state"] for found in sealed] == ["sealed"] * 3
    assert len({found["cohort_id"] for found in sealed}) == 3
    async with here.world.database.begin() as session:
        rows = list((await session.execute(select(Enrollment))).scalars())
    assert len({row.masking_key for row in rows}) == 3


async def test_contribution__repeated_before_submitting__keeps_its_seed_and_sends_the_first_artifact(
    node: tuple[OwnerNode, Lender],
) -> None:
    here, lender = node
    model_id, model, weights = await lender.create_model(cohort_size=1, **WINDOW)
    owner = await here.owner("patient")
    enrollment = await owner.enrolled(model_id, await owner.upload(Rows(7, 30)), accept_alone=True)
    cohort = (await owner.until(enrollment, "sealed"))["cohort_id"]
    round_id = await lender.open_round(cohort)
    body = {"round_id": round_id, "member": owner.address}
    first, second = [await here.ask("POST", "/v1/contributions", json=body) for _ in range(2)]
    assert first["ticket"] != second["ticket"]
    redeemed = [
        (await here.api.post("/v1/tickets/redeem", json={"ticket": ticket["ticket"]}, headers=bearer("trainer-token"))).json()
        for ticket in (first, second, first)
    ]
    assert redeemed[0] == redeemed[1] == redeemed[2]
    digest = await here.contribute(round_id, owner, model, weights)
    other = await here.ask("POST", f"/v1/contributions/{round_id}/{owner.address}/artifact", content=b"anything later")
    assert other["gradient_digest"] == "0x" + digest.hex()
    assert await here.ask("POST", "/v1/contributions", json=body) == {"outcome": "done", "reason": None}
    late = await here.api.post("/v1/tickets/redeem", json={"ticket": second["ticket"]}, headers=bearer("trainer-token"))
    assert late.status_code == 404
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.ACCEPTING)
    assert (await lender.round(round_id)).submissions[0].gradient_digest == digest


async def test_round__failed_at_its_deadline__erases_the_seed_and_releases_nothing(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    model_id, model, weights = await lender.create_model(cohort_size=1, **WINDOW | {"accept_window": 2})
    owner = await here.owner("waiting")
    dataset = await owner.upload(Rows(8, 30))
    enrollment = await owner.enrolled(model_id, dataset, accept_alone=True)
    cohort = (await owner.until(enrollment, "sealed"))["cohort_id"]
    round_id = await lender.open_round(cohort)
    await here.contribute(round_id, owner, model, weights)
    await eventually(lambda: lender.round(round_id), lambda found: found.state is RoundState.ACCEPTING)
    await here.expire(round_id)
    assert (await lender.round(round_id)).state is RoundState.FAILED
    assert (await here.ask("POST", f"/v1/contributions/{round_id}/{owner.address}/conclude"))["outcome"] == "done"
    assert (await owner.until(enrollment, "closed"))["state"] == "closed"
    async with here.world.database.begin() as session:
        contribution = (await session.execute(select(Contribution))).scalar_one()
        assert (contribution.state, contribution.sealed_seed, contribution.earned) == ("failed", None, 0)
        assert list((await session.execute(select(Release))).scalars()) == []
    other, _, _ = await lender.create_model(cohort_size=1, **WINDOW)
    assert (await owner.enroll(other, dataset, accept_alone=True, key="next-model")).status_code == 202


async def test_contribution__for_a_member_of_another_node__is_foreign(node: tuple[OwnerNode, Lender]) -> None:
    here, _ = node
    stranger = "0x" + "52" * 20
    for method, path, body in (
        ("POST", "/v1/contributions", {"round_id": 1, "member": stranger}),
        ("POST", f"/v1/contributions/1/{stranger}/submit", {"gradient_digest": "0x" + "00" * 32}),
        ("POST", f"/v1/contributions/1/{stranger}/unlock", None),
        ("POST", f"/v1/contributions/1/{stranger}/conclude", None),
    ):
        assert (await here.ask(method, path, json=body))["outcome"] == "foreign"


async def test_enrollment__policy_that_the_sealed_cohort_breaks__leaves_with_its_bond(
    anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path
) -> None:
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path, policy_largest_share_percent=60) as (
        here,
        lender,
    ):
        model_id, _, _ = await lender.create_model(cohort_size=2, **WINDOW)
        small, large = await here.owner("small"), await here.owner("large")
        first = await small.enrolled(model_id, await small.upload(Rows(1, 20)))
        await small.until(first, "waiting")
        second = await large.enrolled(model_id, await large.upload(Rows(2, 90)))
        found = await large.until(second, "refused", "closed")
        assert found["state"] == "refused"
        assert "share" in found["reason"]
        leave = await small.request("POST", f"/v1/enrollments/{first}/leave", headers={"Idempotency-Key": "leave-it"})
        assert leave.status_code == 202
        assert (await small.until(first, "closed"))["reason"] == "the owner left"
        assert (await small.get("/v1/earnings"))["credit_wei"] == str(10**16)


async def test_catalogue__a_manifest_that_is_not_the_chains__is_listed_with_the_reason_and_refused(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    terms = await lender.terms(cohort_size=2, **WINDOW)
    other = await lender.terms(cohort_size=3, **WINDOW)
    wrong = manifest(other).to_bytes()
    model_id = await lender.anchor(terms, await lender.store.put(wrong), await lender.store.put(b"weights"))
    await here.announce(model_id)
    owner = await here.owner("careful")
    listed = await owner.get(f"/v1/models/{model_id}")
    assert "terms" in listed["problem"]
    assert listed["manifest"] is None
    answer = await owner.enroll(model_id, await owner.upload(Rows(1, 20)))
    assert (answer.status_code, answer.json()["title"]) == (409, "ManifestNotUsable")


async def test_catalogue__of_a_good_manifest__tells_what_a_dataset_must_hold(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=2, **WINDOW)
    await here.announce(model_id)
    listed = (await (await here.owner("preparing")).get(f"/v1/models/{model_id}"))["manifest"]
    assert listed["features"] == [
        {"kind": "numeric", "name": "income", "minimum": "0", "maximum": "100000", "missing": [], "unit": ""},
        {"kind": "numeric", "name": "age", "minimum": "0", "maximum": "150", "missing": [], "unit": ""},
        {"kind": "category", "name": "region", "values": ["N"], "takes_others": True},
    ]
    assert (listed["label"], listed["positive"], listed["negative"]) == ("Class", ["bad"], ["good"])


async def test_enrollment__what_can_be_refused_at_once__is_refused_with_a_sentence(node: tuple[OwnerNode, Lender]) -> None:
    here, lender = node
    model_id, _, _ = await lender.create_model(cohort_size=2, row_cap=50, **WINDOW)
    owner, poor = await here.owner("rich"), await here.owner("poor", ether=10**15)
    data = await owner.upload(Rows(1, 20))
    for answer, status, title in (
        (await owner.enroll(ModelId(10**9), data, key="no-such-model"), 404, "ModelUnknown"),
        (await owner.enroll(model_id, str(poor.id), key="no-such-data"), 404, "DatasetNotFound"),
        (await poor.enroll(model_id, data, key="not-my-data"), 404, "DatasetNotFound"),
        (await owner.enroll(model_id, await owner.upload(Rows(2, 60)), key="too-many-rows"), 422, "DatasetDoesNotFit"),
        (await poor.enroll(model_id, await poor.upload(Rows(3, 20)), key="no-money-here"), 409, "BalanceTooLow"),
    ):
        assert (answer.status_code, answer.json()["title"]) == (status, title)
        assert answer.headers["content-type"] == "application/problem+json"
    first = await owner.enroll(model_id, data, key="the-same-key")
    second = await owner.enroll(model_id, data, key="the-same-key")
    assert (first.status_code, first.json()["id"]) == (202, second.json()["id"])
    other = await owner.enroll(model_id, data, key="another-key")
    assert (other.status_code, other.json()["title"]) == (409, "AlreadyEnrolled")
    reused = await owner.enroll(model_id, data, key="the-same-key", accept_alone=True)
    assert (reused.status_code, reused.json()["title"]) == (409, "IdempotencyKeyReused")
    in_use = await owner.request("DELETE", f"/v1/datasets/{data}")
    assert (in_use.status_code, in_use.json()["title"]) == (409, "DatasetInUse")
