"""Who may call what, generated from the API's own description: every route, every other owner's object, every kind of token."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from owner_node import Owner, OwnerNode, bearer, dataset_query, run_owner_node
from small_model import Rows, specification
from sqlalchemy import create_engine, insert, inspect, select, text

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.codec import encode
from hessian.chain.binding import Call
from hessian.identifiers import Address, Digest, Wei
from hessian.learning.columns import Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.plain import BILLION
from owner_api.catalogue.schemas import feature_read
from owner_api.migration import migrate
from owner_api.tables import Application, Base, CatalogueModel, Contribution, Enrollment, Withdrawal

STRANGER = "0x" + "52" * 20
BODIES: dict[str, Any] = {
    "/v1/enrollments": {"model_id": 1, "dataset_id": str(uuid.uuid4()), "accept_alone": False},
    "/v1/contributions": {"round_id": 1, "member": STRANGER},
    "/v1/tickets/redeem": {"ticket": "t" * 43},
    "/v1/tickets/rows": {"ticket": "t" * 43},
    "/v1/tickets/application": {"ticket": "t" * 43},
    "/v1/applications": {"deployment_id": 10**9, "max_fee_wei": "1", "features": {}},
    "/v1/applications/{application_id}/requests": {"max_fee_wei": "1"},
    "/v1/owners": {"name": "x"},
    "/v1/transfers": {"to": STRANGER, "amount_wei": "1"},
}
COORDINATORS = ("/v1/catalogue", "/v1/rounds", "/v1/cohorts", "/v1/requests")
NODE_ROLES = {"admin": ("/v1/owners",), "coordinator": COORDINATORS, "trainer": ("/v1/tickets",)}
OPEN = ("/healthz", "/readyz")


@pytest.fixture
async def node(anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path) -> AsyncIterator[OwnerNode]:
    async with run_owner_node(anvil, repository_contract.address, database_url, tmp_path, work=False) as (here, _):
        yield here


async def everything_of(node: OwnerNode, owner: Owner) -> dict[str, str]:
    """One object of every noun, by the name of its path parameter."""
    dataset = await owner.upload(Rows(1, 20))
    identities = {"dataset_id": dataset} | {
        f"{noun}_id": str(uuid.uuid4()) for noun in ("enrollment", "withdrawal", "application", "transfer")
    }
    async with node.world.database.begin() as session:
        enrollment = Enrollment(
            id=uuid.UUID(identities["enrollment_id"]),
            owner_id=uuid.UUID(owner.id),
            dataset_id=uuid.UUID(dataset),
            model_id=1,
            state="waiting",
            cohort_id=1,
            accept_alone=False,
            rows=20,
            manifest_digest=Digest(bytes(32)),
            cohort_size=5,
        )
        session.add(enrollment)
        await session.flush()
        session.add(
            Contribution(
                owner_id=uuid.UUID(owner.id),
                enrollment_id=enrollment.id,
                model_id=1,
                cohort_id=1,
                round_id=1,
                member=owner.address,
                member_index=0,
                weights_digest=Digest(bytes(32)),
                context=bytes(32),
                unlock_commitment=bytes(32),
                first_block=1,
            )
        )
        call = Call(node.world.repository.address, b"", Wei(0))
        row = await node.world.outbox.enqueue(session, business_key="w", sender=owner.address, call=call, purpose="withdraw", subject="w")
        session.add(
            Application(
                id=uuid.UUID(identities["application_id"]),
                owner_id=uuid.UUID(owner.id),
                contract=node.world.deployment.address,
                deployment_id=1,
                model_id=1,
                **dict.fromkeys(("lender_key", "manifest_digest", "weights_digest", "scoring_digest"), Digest(bytes(32))),
                mode="private",
                state="quoted",
                fee=Wei(1),
                cells=b"",
                answer_key=bytes(32),
            )
        )
        session.add(Withdrawal(id=uuid.UUID(identities["withdrawal_id"]), owner_id=uuid.UUID(owner.id), outbox_id=row.id))
        subject = identities["transfer_id"]
        await node.world.outbox.enqueue(session, business_key="t", sender=owner.address, call=call, purpose="transfer", subject=subject)
    return identities


async def routes(node: OwnerNode) -> list[tuple[str, str]]:
    paths = (await node.api.get("/openapi.json")).json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods if path not in OPEN]


def filled(path: str, values: dict[str, str]) -> str:
    defaults = dict.fromkeys(("round_id", "cohort_id", "model_id", "deployment_id", "request_id"), "1")
    defaults |= {"member": STRANGER, "ticket": "t" * 43}
    return re.sub(r"\{(\w+)\}", lambda match: (defaults | values).get(match.group(1), str(uuid.uuid4())), path)


async def send(node: OwnerNode, method: str, path: str, template: str, token: str | None) -> Any:
    options: dict[str, Any] = {"headers": {"Idempotency-Key": f"key-{uuid.uuid4()}"} | (bearer(token) if token else {})}
    if method == "POST":
        options |= {"params": dataset_query(), "content": b""} if template == "/v1/datasets" else {"json": BODIES.get(template, {})}
    return await node.api.request(method, path, **options)


async def test_routes__another_owners_objects__do_not_exist_for_this_one(node: OwnerNode) -> None:
    first, second = await node.owner("first"), await node.owner("second")
    identities = await everything_of(node, first)
    tried = 0
    for method, template in await routes(node):
        if not any("{" + name + "}" in template for name in identities):
            continue
        answer = await send(node, method, filled(template, identities), template, second.token)
        assert answer.status_code == 404, (method, template, answer.text)
        tried += 1
    assert tried >= 5
    for template in ("/v1/datasets", "/v1/enrollments", "/v1/contributions", "/v1/applications", "/v1/transfers"):
        assert (await second.get(template))["items"] == []
        assert len((await first.get(template))["items"]) == 1
    body = {"model_id": 1, "dataset_id": identities["dataset_id"], "accept_alone": False}
    assert (await second.request("POST", "/v1/enrollments", json=body, headers={"Idempotency-Key": "not-mine"})).status_code == 404


async def test_routes__no_token_or_an_unknown_one__are_401(node: OwnerNode) -> None:
    for method, template in await routes(node):
        for token in (None, "nobody's", "x" * 4000):
            answer = await send(node, method, filled(template, {}), template, token)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, template)


async def test_routes__a_token_of_another_role__is_403(node: OwnerNode) -> None:
    owner = await node.owner("somebody")
    for method, template in await routes(node):
        for role, token in (("admin", "admin-token"), ("coordinator", "coordinator-token"), ("trainer", "trainer-token")):
            answer = await send(node, method, filled(template, {}), template, token)
            if answer.status_code == 403:
                continue
            allowed = (
                any(template.startswith(prefix) for prefix in NODE_ROLES[role])
                or (role == "admin" and template.startswith(("/v1/models", "/v1/deployments")))
                or (role == "coordinator" and method == "POST" and template.startswith("/v1/contributions"))
            )
            assert allowed, (role, method, template, answer.status_code)
        if template.startswith((*COORDINATORS, "/v1/tickets")) or (method == "POST" and template.startswith("/v1/owners")):
            answer = await send(node, method, filled(template, {}), template, owner.token)
            assert answer.status_code in (401, 403), (method, template)


async def test_ticket__guessed_used_or_of_the_wrong_kind__opens_nothing(node: OwnerNode) -> None:
    for ticket in ("t" * 43, "../../etc/passwd".replace("/", "_") + "x" * 10):
        for path in ("/v1/tickets/rows", "/v1/tickets/redeem", "/v1/tickets/application"):
            answer = await node.api.post(path, json={"ticket": ticket}, headers=bearer("trainer-token"))
            assert answer.status_code == 404


async def test_owner__made__shows_its_token_once_and_keeps_only_hash_and_keystore(node: OwnerNode) -> None:
    owner = await node.owner("the first bank")
    me = await owner.get("/v1/owners/me")
    assert (me["address"], me["balance_wei"]) == (owner.address, str(10**18))
    listed = (await node.api.get("/v1/owners", headers=bearer("admin-token"))).json()["items"]
    assert owner.token not in str(listed)
    again = await node.api.post("/v1/owners", json={"name": "the first bank"}, headers=bearer("admin-token"))
    assert (again.status_code, again.json()["title"]) == (409, "OwnerNameTaken")
    for name in ("", " ", "x" * 201, "nul\x00", 7, None, "\ud800"):
        content = json.dumps({"name": name}).encode()
        answer = await node.api.post("/v1/owners", content=content, headers=bearer("admin-token") | {"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), name
    node.world.wallets._opened.clear()
    assert str((await node.world.wallets.signer_of(owner.address)).address) == owner.address  # from the keystore, with the passphrase


async def test_openapi__every_operation__has_summary_unique_id_and_problem_shapes(node: OwnerNode) -> None:
    document = (await node.api.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    identities = [operation["operationId"] for operation in operations]
    assert len(set(identities)) == len(identities)
    for operation in operations:
        assert {"4XX", "5XX"} <= set(operation["responses"])
        refused = [answer["content"] for status, answer in operation["responses"].items() if status[0] == "4"]
        assert all(list(content) == ["application/problem+json"] for content in refused)
        assert operation.get("summary")
    enrolling = ("/v1/enrollments", "/v1/enrollments/{enrollment_id}/leave")
    for path in (*enrolling, "/v1/withdrawals", "/v1/transfers", "/v1/applications", "/v1/applications/{application_id}/requests"):
        names = {parameter["name"]: parameter for parameter in document["paths"][path]["post"]["parameters"]}
        assert names["Idempotency-Key"]["required"]


@pytest.fixture
def migrated(database_url: str) -> Iterator[Any]:
    migrate(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_migrations__at_head__say_what_the_tables_say(migrated: Any) -> None:
    context = MigrationContext.configure(migrated, opts={"compare_type": True})
    assert compare_metadata(context, Base.metadata) == []
    assert set(inspect(migrated).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_migrations__of_a_catalogue_that_was_read_before__say_which_numbers_may_be_missing(migrated: Any, database_url: str) -> None:
    gappy = Numeric("rate", 0, 100 * BILLION, 0, 40 * BILLION, 10 * BILLION, BILLION, ("NA", ""), unit="%")
    plain = FeatureSpecification((gappy, *specification().features), specification().label)
    features = [feature_read(feature).model_dump() for feature in plain.features]
    before = [{name: said for name, said in feature.items() if name not in ("missing", "unit")} for feature in features]
    row = {
        "lender": Address(STRANGER), "state": "open", "is_closed": False, "best_error": 1, "rounds_paid": 0, "terms": {},
        "forming_cohort_id": 1, "forming_members": 0, "manifest_digest": Digest(bytes(32)), "seen_block": 1,
    }  # fmt: skip
    examined = {"manifest": encode({"specification": plain.to_plain()}), "summary": {"name": "read before", "features": before}}
    migrated.execute(insert(CatalogueModel), [row | {"model_id": 1} | examined])
    migrated.execute(insert(CatalogueModel), [row | {"model_id": 2, "problem": "its manifest was refused"}])
    migrated.execute(text("update alembic_version set version_num = '0006'"))
    migrated.commit()
    migrate(database_url)
    known = dict(migrated.execute(select(CatalogueModel.model_id, CatalogueModel.summary)).all())
    assert known == {1: {"name": "read before", "features": features}, 2: None}
