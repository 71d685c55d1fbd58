"""What a borrower's node refuses, each with its own reason, before anything is stored, sent or paid."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bare_lender import FEE, BareLender
from borrower import Borrower
from owner_node import OwnerNode, bearer, run_owner_node
from small_model import manifest
from small_serving import POLICY
from sqlalchemy import func, select, update

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.codec import decode, encode
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.terms import ChainTerms
from hessian.errors import IpfsUnavailable
from hessian.identifiers import Wei, digest_of
from hessian.ipfs.audit import Audit, audit
from hessian.learning.columns import Numeric
from hessian.outbox.tables import TransactionState
from hessian.paillier.certificate import KeyCertificate
from owner_api.applications.offers import LEAST_VALID_SECONDS
from owner_api.applications.preparing import prepare
from owner_api.copies import STILL_PUBLISHED, Anchored
from owner_api.promises import Promised, promised_by
from owner_api.states import ApplicationState
from owner_api.tables import Application, OutgoingTransaction, Owner

FEATURES: dict[str, Any] = {"income": 900.25, "age": 71, "region": "S"}
SETS: list[dict[str, Any]] = [{"income": 1000 + number, "age": 30 + number, "region": f"R{number}"} for number in range(8)]


def _forged(terms: ChainTerms) -> ModelManifest:
    honest = manifest(terms)
    return replace(honest, certificate=KeyCertificate(tuple(reversed(honest.certificate.roots))))


def _with_gaps(terms: ChainTerms) -> ModelManifest:
    """An age may be missing, and may be written with its unit."""
    honest = manifest(terms)
    income, age, region = honest.specification.features
    assert isinstance(age, Numeric)
    gappy = replace(age, missing_values=("", "NA"), unit="y")
    return replace(honest, specification=replace(honest.specification, features=(income, gappy, region)))


@pytest.fixture(scope="module")
def lender(anvil: Anvil, repository_contract: Deployment, serving_contract: Deployment) -> BareLender:
    return BareLender(anvil, repository_contract, serving_contract)


@pytest.fixture
async def borrower(lender: BareLender, database_url: str, tmp_path: Path) -> AsyncIterator[Borrower]:
    addresses = lender.repository.address, lender.serving.address
    async with run_owner_node(lender.anvil, addresses[0], database_url, tmp_path, serving=addresses[1], work=False) as (here, _):
        await lender.publish(here.world.store)
        yield await Borrower.at(here, lender)


async def nothing_happened(node: OwnerNode) -> bool:
    """No application, no transaction, no published block but the lender's two."""
    async with node.world.database.begin() as session:
        counts = [
            (await session.execute(select(func.count()).select_from(table))).scalar_one() for table in (Application, OutgoingTransaction)
        ]
    return counts == [0, 0]


async def test_features__each_class_of_bad_input__is_refused_with_every_field_named(borrower: Borrower, lender: BareLender) -> None:
    deployment_id = lender.deploy()
    cases: list[tuple[Any, dict[str, str]]] = [
        ({}, {"features.income": "missing", "features.age": "missing", "features.region": "missing"}),
        ({"income": 1, "region": "N"}, {"features.age": "missing"}),
        (FEATURES | {"zodiac": "lion"}, {"features.zodiac": "not a field"}),
        (FEATURES | {"income": "much"}, {"features.income": "decimal number"}),
        (FEATURES | {"income": ""}, {"features.income": "decimal number"}),
        (FEATURES | {"income": None}, {"features.income": "text or a number"}),
        (FEATURES | {"income": True}, {"features.income": "text or a number"}),
        (FEATURES | {"income": [1]}, {"features.income": "text or a number"}),
        (FEATURES | {"income": {"value": 1}}, {"features.income": "text or a number"}),
        (FEATURES | {"income": -0.01}, {"features.income": "between 0 and 100000"}),
        (FEATURES | {"income": 100_000.5, "age": 151}, {"features.income": "between 0 and 100000", "features.age": "between 0 and 150"}),
        (FEATURES | {"income": 10**300}, {"features.income": "out of range"}),
        (FEATURES | {"income": 1e300}, {"features.income": ""}),
        (FEATURES | {"income": 0.1234567891}, {"features.income": "9 digits"}),
        (FEATURES | {"income": "1_000"}, {"features.income": "decimal number"}),
        (FEATURES | {"income": "٣"}, {"features.income": "decimal number"}),
        (FEATURES | {"region": "N" * 201}, {"features.region": ""}),
        (FEATURES | {"region": "N\x00"}, {"features.region": ""}),
        (FEATURES | {"region": ["N"]}, {"features.region": "text or a number"}),
        (FEATURES | {"Class": "bad"}, {"features.Class": "not a field"}),
        (FEATURES | {"in\u202ecome": 1}, {"features": "cannot be shown"}),
        (FEATURES | {"x" * 500: 1, "age": 999}, {"features.age": "between 0 and 150", "features": "cannot be shown"}),
    ]
    for number, (features, says) in enumerate(cases):
        answer = await borrower.ask(deployment_id, features, key=f"bad-key-{number}")
        problem = answer.json()
        assert (answer.status_code, problem["title"]) == (422, "FeaturesRefused"), (features, problem)
        found = {error["where"]: error["what"] for error in problem["errors"]}
        assert found.keys() == says.keys(), features
        assert all(part in found[where] for where, part in says.items()), found
        assert answer.headers["content-type"] == "application/problem+json"
    assert await nothing_happened(borrower.node)


ODD_BODIES: list[tuple[bytes, int]] = [
    (b'"features":{"age":1,"age":2}', 400),
    (b'"features":{"age":NaN}', 400),
    (b'"features":{"age":-Infinity}', 400),
    (b'"features":{"age":' + b"9" * 5000 + b"}", 400),
    (b'"features":' + b"[" * 100_000 + b"]" * 100_000, 400),
    (b'"features":[1]', 422),
    (b'"features":null', 422),
    (b'"feature":{}', 422),
    (b'"features":{},"mode":"half-open"', 422),
    (b'"features":{},"notes":""', 422),
    (b'"features":{},"deployment_id":"1"', 400),
    (b'"features":{"\\ud800":1}', 422),
    (b'"features":{"age":"\\udfff"}', 422),
    (b'"features":{"age":1e999}', 422),
    (b"\xff\xfe", 400),
    (b'"features":{"age":"' + b"9" * (1 << 20) + b'"}', 413),
]


async def test_body__that_is_no_application__is_a_problem_and_never_a_crash(borrower: Borrower, lender: BareLender) -> None:
    start = b'{"deployment_id":%d,"max_fee_wei":"%d",' % (lender.deploy(), FEE)
    headers = {"Idempotency-Key": "odd-body", "Content-Type": "application/json"}
    for body, status in ODD_BODIES:
        answer = await borrower.account.request("POST", "/v1/applications", content=start + body + b"}", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (body[:60], answer.text)
    for wrong in ({"max_fee_wei": 1}, {"max_fee_wei": "-1"}, {"max_fee_wei": "0x1"}, {"deployment_id": 0}, {"deployment_id": 2**63}):
        sent = {"deployment_id": 1, "max_fee_wei": "1", "features": FEATURES} | wrong
        assert (await borrower.account.request("POST", "/v1/applications", json=sent, headers=headers)).status_code == 422, wrong
    no_key = await borrower.account.request("POST", "/v1/applications", json={})
    assert no_key.status_code == 422
    assert await nothing_happened(borrower.node)


def _changed(lender: BareLender, *path: str | int, to: Any) -> bytes:
    """The scoring model's bytes with one value replaced, or a field added."""
    plain: Any = decode(lender.scoring.to_bytes())
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return encode(plain)


async def test_offer__that_breaks_a_rule__is_shown_with_the_reason_and_refused(borrower: Borrower, lender: BareLender) -> None:
    forged = BareLender(lender.anvil, lender.repository, lender.serving, manifest_for=_forged)
    await forged.publish(borrower.node.world.store)
    senseless = replace(lender.scoring, policy=replace(POLICY, cutoff_bps=1)).to_bytes()
    hasty = replace(lender.scoring, policy=replace(POLICY, quote_valid_seconds=LEAST_VALID_SECONDS - 1)).to_bytes()
    of_another = replace(lender.scoring, manifest=digest_of(b"another")).to_bytes()
    contents: list[tuple[bytes, str, str]] = [
        (b"garbage", "ScoringModelNotUsable", "artifact"),
        (_changed(lender, "scale", "blinding_bits", to=41), "ScoringModelNotUsable", "blinding bits"),
        (_changed(lender, "scale", "largest_weight", to=1 << 30), "ScoringModelNotUsable", "more than 32 bits"),
        (_changed(lender, "version", to=2), "ScoringModelNotUsable", "schema version 2"),
        (_changed(lender, "bribe", to=1), "ScoringModelNotUsable", "unknown fields"),
        (_changed(lender, "policy", "cutoff_bps", to=10_000), "ScoringModelNotUsable", "cutoff_bps"),
        (_changed(lender, "calibration", "lowest_bps", to=9_999), "ScoringModelNotUsable", "rise"),
        (_changed(lender, "weights", to=bytes(32)), "ScoringModelNotUsable", "other weights"),
        (_changed(lender, "ciphertexts", 0, to=bytes(128)), "ScoringModelNotUsable", ""),
        (of_another, "ScoringModelNotUsable", "another manifest"),
        (senseless, "DeploymentNotServing", "approves nobody"),
        (hasty, "DeploymentNotServing", "quotes hold for 599 seconds"),
    ]
    await lender.publish(borrower.node.world.store, *(data for data, _, _ in contents))
    cases = [(lender.deploy(digest_of(data)), 409, title, says) for data, title, says in contents]
    cases.append((forged.deploy(), 409, "ManifestNotUsable", "certificate"))
    cases.append((lender.deploy(digest_of(b"never published")), 503, "ContentMissing", "not here"))
    retired = lender.deploy()
    lender.retire(retired)
    cases.append((retired, 409, "DeploymentNotServing", "retired"))
    for number, (deployment_id, status, title, says) in enumerate(cases):
        answer = await borrower.ask(deployment_id, FEATURES, key=f"offer-key-{number}")
        assert (answer.status_code, answer.json()["title"]) == (status, title), (says, answer.text)
        assert says in answer.json()["detail"]
        read = await borrower.account.get(f"/v1/deployments/{deployment_id}")
        assert says in (read["problem"] or "; ".join(read["objections"]))
    unknown = await borrower.ask(10**9, FEATURES, key="unknown-key")
    assert (unknown.status_code, unknown.json()["title"]) == (404, "DeploymentUnknown")
    assert await nothing_happened(borrower.node)


async def test_money__more_than_the_borrower_allows_or_has__is_refused(borrower: Borrower, lender: BareLender) -> None:
    cheap, dear = lender.deploy(), lender.deploy(fee=2 * 10**18)
    low = await borrower.ask(cheap, FEATURES, max_fee_wei=str(FEE - 1))
    assert (low.status_code, low.json()["title"]) == (409, "FeeAboveLimit")
    assert str(FEE) in low.json()["detail"]
    poor = await borrower.ask(dear, FEATURES, max_fee_wei=str(10**19), key="dear-key")
    assert (poor.status_code, poor.json()["title"]) == (409, "BalanceTooLow")
    assert await nothing_happened(borrower.node)


async def test_money__promised_to_a_transfer_on_its_way__pays_no_fee(borrower: Borrower, lender: BareLender) -> None:
    deployment_id, key = lender.deploy(), {"Idempotency-Key": "an-idempotency-key"}
    application = await borrower.applied(deployment_id, SETS[0])
    async with borrower.node.world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
        row.state, row.query, row.query_digest = ApplicationState.EXPIRED, b"a query", digest_of(b"a query")
    sent = {"to": "0x" + 20 * "5c", "amount_wei": str(996 * 10**15)}
    assert (await borrower.account.request("POST", "/v1/transfers", json=sent, headers=key)).status_code == 202
    path, most = f"/v1/applications/{application}/requests", {"max_fee_wei": str(FEE)}
    for answer in (
        await borrower.ask(deployment_id, SETS[1], key="meanwhile-key"),
        await borrower.account.request("POST", path, json=most, headers=key | {"Idempotency-Key": "again-key-1"}),
    ):
        assert (answer.status_code, answer.json()["title"]) == (409, "BalanceTooLow")
        assert f"{996 * 10**15} wei of it promised" in answer.json()["detail"]


async def test_money__fee_of_an_application__is_promised_once_while_the_balance_still_holds_it(
    borrower: Borrower, lender: BareLender
) -> None:
    world, application = borrower.node.world, uuid.UUID(await borrower.applied(lender.deploy(), SETS[0]))
    head = await world.chain.head_block()

    async def promised() -> Promised:
        async with world.database.begin() as session:
            return await promised_by(session, await session.get_one(Owner, uuid.UUID(borrower.account.id)), head)

    assert await promised() == Promised(bonds=Wei(0), fees=FEE, leaving=Wei(0))
    async with world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
        row.query, row.query_digest = b"a query", digest_of(b"a query")
    await prepare(world, application)
    assert await promised() == Promised(bonds=Wei(0), fees=Wei(0), leaving=FEE)
    for block, leaving in ((int(head.number) + 1, FEE), (int(head.number), 0)):
        async with world.database.begin() as session:
            await session.execute(update(OutgoingTransaction).values(block_number=block, state=TransactionState.FINAL))
            await session.execute(update(Application).values(state=ApplicationState.WAITING))
        assert await promised() == Promised(bonds=Wei(0), fees=Wei(0), leaving=Wei(leaving))


async def test_limits__of_one_borrower__hold_over_all_deployments_and_for_nobody_else(borrower: Borrower, lender: BareLender) -> None:
    deployments = [lender.deploy() for _ in range(2)]
    keys = iter(range(100))

    async def refused(features: dict[str, Any], title: str, says: str, deployment_id: int = deployments[1]) -> None:
        answer = await borrower.ask(deployment_id, features, key=f"limit-key-{next(keys)}")
        assert (answer.status_code, answer.json()["title"]) == (409, title), answer.text
        assert says in answer.json()["detail"]

    async def answered(at: int, **changes: Any) -> None:
        async with borrower.node.world.database.begin() as session:
            for row in (await session.execute(select(Application))).scalars():
                row.state, row.answered_at = ApplicationState.QUOTED, at
                row.created_at -= timedelta(**changes)

    await borrower.applied(deployments[0], SETS[0], key="first-set")
    await refused(SETS[1], "QuotePeriodNotOver", "under way")
    await answered(lender.clock())
    await refused(SETS[1], "QuotePeriodNotOver", "apply again after")
    await answered(0)
    await refused(SETS[0], "SameFeatures", "33 bits")
    await refused(SETS[0], "SameFeatures", "", deployments[0])
    await refused(SETS[0] | {"age": "30.0"}, "SameFeatures", "")
    await refused(SETS[0] | {"age": "31"}, "SameFeatures", "")
    for number in (1, 2):
        await borrower.applied(deployments[1], SETS[number], key=f"set-number-{number}")
        await answered(0)
    await refused(SETS[3], "TooManyFeatureSets", "3 feature sets")
    await answered(0, days=31)
    await borrower.applied(deployments[1], SETS[3], key="a-month-later")
    await answered(0)
    await refused(SETS[2], "SameFeatures", "")
    neighbour = await Borrower.at(borrower.node, lender, "neighbour")
    await neighbour.applied(deployments[1], SETS[0])


async def test_application__erased_while_it_is_prepared__is_withdrawn_and_leaves_nothing(borrower: Borrower, lender: BareLender) -> None:
    deployment_id = lender.deploy()
    application = await borrower.applied(deployment_id, SETS[0])
    assert (await borrower.account.request("DELETE", f"/v1/applications/{application}/features")).status_code == 204
    withdrawn = await borrower.account.get(f"/v1/applications/{application}")
    assert (withdrawn["state"], withdrawn["features_kept"], withdrawn["transactions"]) == ("failed", False, [])
    await prepare(borrower.node.world, uuid.UUID(application))  # a worker that was busy with it notices
    async with borrower.node.world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
    assert (row.state, row.cells, row.sealed_features, row.query, row.query_digest) == ("failed", b"", None, None, None)
    await borrower.applied(deployment_id, SETS[0], key="the-same-again")


async def test_application__withdrawn_while_its_query_is_published__leaves_no_query(
    borrower: Borrower, lender: BareLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, store = await borrower.applied(lender.deploy(), SETS[0]), borrower.node.world.store
    async with borrower.node.world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
        row.query, row.query_digest = b"a query", digest_of(b"a query")
    put = store._put

    async def withdrawn_meanwhile(data: bytes) -> str:
        assert (await borrower.account.request("DELETE", f"/v1/applications/{application}/features")).status_code == 204
        return await put(data)

    monkeypatch.setattr(store, "_put", withdrawn_meanwhile)
    await prepare(borrower.node.world, uuid.UUID(application))
    assert (await borrower.account.get(f"/v1/applications/{application}"))["state"] == "failed"
    assert not await store.is_pinned(digest_of(b"a query"))


async def test_application__node_dies_between_pin_and_unpin_of_a_withdrawn_query__the_audit_unpins_it(
    borrower: Borrower, lender: BareLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, world = await borrower.applied(lender.deploy(), SETS[0]), borrower.node.world
    store, copies, query = world.store, Anchored(world.database), digest_of(b"a query")
    async with world.database.begin() as session:
        row = (await session.execute(select(Application))).scalar_one()
        row.query, row.query_digest = b"a query", query
    put = store._put

    async def last_act(data: bytes) -> str:
        assert (await borrower.account.request("DELETE", f"/v1/applications/{application}/features")).status_code == 204
        await put(data)
        raise IpfsUnavailable

    with monkeypatch.context() as death:
        death.setattr(store, "_put", last_act)
        with pytest.raises(IpfsUnavailable):
            await prepare(world, uuid.UUID(application))
    assert await store.is_pinned(query)
    for removed in (1, 0):
        assert await audit(store, copies) == Audit(checked=0, restored=0, removed=removed)
    assert not await store.is_pinned(query)
    await put(b"a query")  # whoever had the bytes before the erasure may still be about to pin them
    assert (await audit(store, copies)).removed == 1
    before = await borrower.account.get(f"/v1/applications/{application}")
    async with world.database.begin() as session:
        await session.execute(
            update(Application).values(erased_at=Application.erased_at - 2 * STILL_PUBLISHED, updated_at=Application.updated_at)
        )
    assert await unpinned_at(borrower) is None
    assert (await audit(store, copies)).removed == 0
    assert await unpinned_at(borrower) is not None
    assert await borrower.account.get(f"/v1/applications/{application}") == before
    await put(b"a query")  # from now on it is somebody else's
    assert (await audit(store, copies)).removed == 0


async def unpinned_at(borrower: Borrower) -> datetime | None:
    async with borrower.node.world.database.begin() as session:
        return (await session.execute(select(Application.unpinned_at))).scalar_one()


async def test_deployments__listed__say_all_that_a_form_needs(borrower: Borrower, lender: BareLender) -> None:
    gaps = BareLender(lender.anvil, lender.repository, lender.serving, manifest_for=_with_gaps)
    await gaps.publish(borrower.node.world.store)
    deployment_id = gaps.deploy(fee=7, window=900)
    read = await borrower.account.get(f"/v1/deployments/{deployment_id}")
    assert (read["fee_wei"], read["answer_window"], read["problem"], read["objections"]) == ("7", 900, None, [])
    offer = read["offer"]
    assert offer["features"] == [
        {"kind": "numeric", "name": "income", "minimum": "0", "maximum": "100000", "missing": [], "unit": ""},
        {"kind": "numeric", "name": "age", "minimum": "0", "maximum": "150", "missing": ["", "NA"], "unit": "y"},
        {"kind": "category", "name": "region", "values": ["N"], "takes_others": True},
    ]
    assert [(one["decision"], one["rate_bps"]) for one in offer["decisions"]] == [("approve", 800), ("approve", 1950), ("decline", None)]
    assert (offer["blinding_bits"], offer["gives_reasons"], offer["policy"]["cutoff_bps"]) == (32, True, POLICY.cutoff_bps)
    words = " ".join(offer["in_words"])
    assert all(part in words for part in ("25.00 %", "1 day", "30 days", "33 bits", "reasons"))
    pages, after = list[int](), None
    while True:
        path = "/v1/deployments?limit=3" + (f"&after={after}" if after else "")
        page = (await borrower.node.api.get(path, headers=bearer("admin-token"))).json()
        pages += [item["deployment_id"] for item in page["items"]]
        if (after := page["next"]) is None:
            break
    assert pages == list(range(1, deployment_id + 1))
    needed: list[dict[str, Any]] = [{"income": None}, {"income": ""}, {"age": "N/A"}]
    for number, wrong in enumerate(needed):
        refused = await borrower.ask(deployment_id, FEATURES | wrong, key=f"needed-key-{number}")
        assert [error["where"] for error in refused.json()["errors"]] == [f"features.{name}" for name in wrong]
    await borrower.applied(deployment_id, FEATURES | {"age": None})
