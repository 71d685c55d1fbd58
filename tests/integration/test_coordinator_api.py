"""The coordinator's API over a real chain and a real Postgres: what a live display reads, who may read it, and when it is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from asgi_lifespan import LifespanManager
from exposition import declared, scrape
from market import Market
from serving_market import ServingMarket
from sqlalchemy import create_engine, make_url, text

from coordinator import metrics
from coordinator.app import create_app
from coordinator.dispatcher import Dispatcher
from coordinator.handlers import Handlers
from coordinator.jobs import Service
from coordinator.migration import migrate
from coordinator.tables import Base
from coordinator.watcher import Watcher
from coordinator.world import World
from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.toolchain import ROOT
from hessian.chain.client import connect
from hessian.chain.contracts import Contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.identifiers import BlockNumber, Wei
from hessian.postgres.engine import Database, open_database
from hessian.service.tokens import NodeTokens
from hessian.testing import MemoryStore

TOKENS = {"admin": "a" * 40, "coordinator": "c" * 40, "trainer": "t" * 40}
READS = ["/v1/status", "/v1/models", "/v1/rounds", "/v1/deployments", "/v1/requests", "/v1/jobs", "/v1/events"]


@dataclass
class Bench:
    """One coordinator without its loops: the test steps the watcher itself."""

    world: World
    http: httpx.AsyncClient

    async def catch_up(self) -> None:
        while await self.world.watcher.step():
            pass

    async def get(self, path: str, *, status: int = 200, token: str = "admin", **query: Any) -> Any:
        response = await self.http.get(path, params=query, headers=bearer(token))
        assert response.status_code == status, response.text
        return response.json()

    async def everything(self, path: str, **query: Any) -> list[Any]:
        """All pages."""
        items, after = [], None
        while True:
            page = await self.get(path, **query, **({"after": after} if after else {}))
            items += page["items"]
            after = page["next"]
            if after is None:
                return items

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.world.database.begin() as session:
            await session.execute(text(statement), values)


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[role]}"}


def world_on(database: Database, url: str, contracts: Contracts, deployment: Deployment) -> World:
    return World(
        database=database,
        contracts=contracts,
        node_tokens=NodeTokens(**TOKENS),
        services=frozenset(Service),
        watcher=Watcher(database, contracts, frozenset(Service), start=deployment.block, range_limit=1000, poll_seconds=0.05),
        dispatcher=Dispatcher(database, make_url(url), Handlers(MemoryStore()), concurrency=1, stalled_seconds=2.0),
        ready_lag_seconds=30,
    )


@pytest.fixture
async def bench(database_url: str, fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment) -> AsyncIterator[Bench]:
    migrate(database_url)
    async with open_database(database_url) as database, connect(fresh_anvil.url) as chain:
        contracts = Contracts(ModelRepository(chain, fresh_repository.address), ModelDeployment(chain, fresh_serving.address))
        world = world_on(database, database_url, contracts, fresh_repository)
        async with LifespanManager(create_app(world)) as manager:
            transport = httpx.ASGITransport(app=manager.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as http:
                yield Bench(world, http)


@pytest.fixture
def market(fresh_anvil: Anvil, fresh_repository: Deployment) -> Market:
    return Market(fresh_anvil, fresh_repository)


@pytest.fixture
async def told(bench: Bench, market: Market) -> Bench:
    """One settled round of two members, one round where the first has submitted, a second model with nobody in it."""
    cohort_id, members = market.seal_cohort(market.create_model(cohort_size=2))
    market.run_round(cohort_id, members, new_error=230_000_000)
    market.submit(market.open_round(cohort_id), members[0], 0)
    market.create_model()
    market.finalise()
    await bench.catch_up()
    return bench


@pytest.mark.parametrize("path", READS)
async def test_get__no_token_or_the_wrong_one__is_refused(bench: Bench, path: str) -> None:
    nobody = await bench.http.get(path)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert nobody.headers["content-type"] == "application/problem+json"
    stranger = await bench.http.get(path, headers={"Authorization": "Bearer " + "x" * 40})
    assert stranger.status_code == 401
    trainer = await bench.http.get(path, headers=bearer("trainer"))
    assert trainer.status_code == 403


@pytest.mark.parametrize("path", READS)
async def test_get__before_anything_happened__is_empty_not_broken(bench: Bench, path: str) -> None:
    answer = await bench.get(path, token="coordinator")
    assert answer.get("items", []) == []
    assert answer.get("cursor") is None


async def test_list_models__a_round_is_running__reads_like_the_contract(told: Bench, market: Market) -> None:
    first, second = (await told.get("/v1/models"))["items"]
    assert (first["model_id"], first["state"], first["best_error"], first["round_in_flight"]) == (1, "open", 230_000_000, 2)
    assert (first["rounds_opened"], first["rounds_paid"]) == (2, 1)
    assert first["lender"] == market.lender.address
    assert first["bounty_wei"] == "1000000000000000000"
    assert int(first["paid_wei"]) == 10**18 * 20 // 50 + 10**15
    sealed, forming = first["cohorts"]
    assert (sealed["is_sealed"], sealed["total_rows"], [member["rows"] for member in sealed["members"]]) == (True, 2000, [1000, 1000])
    assert (forming["is_sealed"], forming["members"]) == (False, [])
    assert (second["model_id"], second["round_in_flight"]) == (2, None)


async def test_list_models__past_the_training_deadline__reads_expired(bench: Bench, market: Market, fresh_anvil: Anvil) -> None:
    market.create_model()
    fresh_anvil.move_time(90_000)
    await bench.catch_up()
    (model,) = (await bench.get("/v1/models"))["items"]
    assert model["state"] == "expired"


async def test_list_rounds__one_settled_one_running__who_did_what(told: Bench) -> None:
    settled, running = (await told.get("/v1/rounds", model_id=1))["items"]
    assert (settled["state"], settled["submitted"], settled["unlocked"]) == ("settled", 2, 2)
    assert (settled["error_before"], settled["error_after"]) == (250_000_000, 230_000_000)
    assert int(settled["pool_wei"]) == int(settled["reward_wei"]) + 10**15
    assert (running["state"], running["number"], running["submitted"], running["ended_at"]) == ("submitting", 2, 1, None)
    done, waiting = running["members"]
    assert done["submitted_at"] is not None
    assert len(done["gradient_digest"]) == 66
    assert (waiting["submitted_at"], waiting["gradient_digest"]) == (None, None)
    assert sorted(job["kind"] for job in running["jobs"]) == ["contribute", "contribute"]
    assert (await told.get("/v1/rounds", model_id=2))["items"] == []


async def test_list_events__in_pages__complete_in_the_chains_order_without_doubles(told: Bench) -> None:
    final = await told.world.chain.final_block()
    on_chain = await told.world.contracts.repository.events(BlockNumber(0), final.number)
    listed = await told.everything("/v1/events", limit=3)
    assert [event["kind"] for event in listed] == [event.kind for event in on_chain]
    places = [(event["block_number"], event["log_index"]) for event in listed]
    assert places == sorted(set(places))
    settled = next(event for event in listed if event["kind"] == "RoundSettled")
    assert settled["arguments"]["reward"] == str(10**18 * 20 // 50)
    assert settled["model_id"] == 1
    submissions = [event for event in listed if event["kind"] == "GradientSubmitted"]
    assert {event["model_id"] for event in submissions} == {1}


async def test_list_events__of_one_model__no_other(told: Bench) -> None:
    kinds = [event["kind"] for event in await told.everything("/v1/events", model_id=2)]
    assert kinds == ["ModelCreated"]


async def test_list_jobs__by_state_and_round__only_those(told: Bench) -> None:
    every = await told.everything("/v1/jobs", limit=2)
    assert len({job["id"] for job in every}) == len(every)
    await told.execute("update jobs set state = 'set_aside', reason = 'the policy objects' where kind = 'unlock'")
    aside = await told.everything("/v1/jobs", state="set_aside")
    assert [(job["kind"], job["reason"]) for job in aside] == [("unlock", "the policy objects")] * 2
    assert {job["round_id"] for job in await told.everything("/v1/jobs", round_id=2)} == {2}


async def test_list_deployments_and_requests__one_answered_one_waiting__read_like_the_contract(
    bench: Bench, market: Market, fresh_serving: Deployment
) -> None:
    serving = ServingMarket(market, fresh_serving)
    first, retired = serving.deploy(), serving.deploy(fee=Wei(0))
    serving.send(market.lender, "retire", retired)
    answered, _ = serving.request(first)
    serving.answer(answered)
    waiting, borrower = serving.request(first)
    market.finalise()
    await bench.catch_up()
    served, gone = await bench.everything("/v1/deployments", limit=1)
    assert (served["deployment_id"], served["fee_wei"], served["is_retired"]) == (first, str(10**15), False)
    assert (gone["deployment_id"], gone["fee_wei"], gone["is_retired"]) == (retired, "0", True)
    assert (await bench.get("/v1/deployments", model_id=2))["items"] == []
    one, two = await bench.everything("/v1/requests", deployment_id=first, limit=1)
    assert (one["request_id"], one["state"], [job["kind"] for job in one["jobs"]]) == (
        answered,
        "answered",
        ["answer_score", "read_answer"],
    )
    assert (two["request_id"], two["state"], two["answer_digest"], two["ended_at"]) == (waiting, "waiting", None, None)
    assert (two["requester"], two["deadline"]) == (borrower.address, two["requested_at"] + 60)
    assert {job["request_id"] for job in await bench.everything("/v1/jobs", request_id=waiting)} == {waiting}
    events = await bench.everything("/v1/events", deployment_id=first)
    assert [event["kind"] for event in events] == ["ModelDeployed", "ScoreRequested", "ScoreAnswered", "Credited", "ScoreRequested"]
    assert {event["contract"] for event in events} == {"ModelDeployment"}
    assert (await bench.get("/v1/status"))["deployment_address"] == fresh_serving.address


async def test_retry__set_aside__planned_again_once(told: Bench) -> None:
    await told.execute("update jobs set state = 'set_aside', crashes = 5 where id = 1")
    await told.execute("delete from procrastinate_jobs")
    answer = await told.http.post("/v1/jobs/1/retry", headers=bearer("admin"))
    assert (answer.status_code, answer.json()["state"]) == (200, "planned")
    again = await told.http.post("/v1/jobs/1/retry", headers=bearer("admin"))
    assert (again.status_code, again.json()["title"]) == (409, "JobNotSetAside")
    async with told.world.database.begin() as session:
        assert (await session.execute(text("select count(*) from procrastinate_jobs"))).scalar_one() == 1


async def test_retry__unknown_job_or_not_the_operator__is_refused(told: Bench) -> None:
    assert (await told.http.post("/v1/jobs/4711/retry", headers=bearer("admin"))).status_code == 404
    assert (await told.http.post("/v1/jobs/1/retry", headers=bearer("coordinator"))).status_code == 403


async def test_status__caught_up__no_lag(told: Bench) -> None:
    status = await told.get("/v1/status")
    assert status["final"] == status["cursor"]
    assert status["head"]["number"] == status["final"]["number"] + 2
    assert (status["lag_blocks"], status["lag_seconds"]) == (0, 0)
    assert status["services"] == ["lender", "owner", "trainer"]
    assert set(status["jobs"]) == {"planned", "dispatched", "done", "foreign", "set_aside"}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/models", {"after": "???"}),
        ("/v1/models", {"after": "a12"}),
        ("/v1/models", {"limit": "0"}),
        ("/v1/models", {"limit": "1000000000"}),
        ("/v1/rounds", {"model_id": "0"}),
        ("/v1/rounds", {"model_id": str(2**63)}),
        ("/v1/rounds", {"model_id": "1e3"}),
        ("/v1/jobs", {"state": "'; drop table jobs"}),
        ("/v1/events", {"model_id": "-1"}),
    ],
)
async def test_get__nonsense_in_the_query__is_malformed(bench: Bench, path: str, query: dict[str, str]) -> None:
    answer = await bench.get(path, status=422, **query)
    assert answer["title"] == "Malformed"


async def test_readyz__before_the_first_block_then_caught_up_then_far_behind__tells(
    bench: Bench, market: Market, fresh_anvil: Anvil
) -> None:
    market.finalise()
    waiting = await bench.http.get("/readyz")
    assert (waiting.status_code, waiting.json()["checks"]["cursor"]) == (503, "no block has been read yet")
    await bench.catch_up()
    ready = await bench.http.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (200, {"database": "ok", "chain": "ok", "cursor": "ok"})
    fresh_anvil.move_time(100)
    behind = await bench.http.get("/readyz")
    assert behind.status_code == 503
    assert "seconds behind the final block" in behind.json()["checks"]["cursor"]


async def test_openapi__every_operation__has_a_stable_name_and_problems(bench: Bench) -> None:
    document = (await bench.http.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {operation["operationId"] for operation in operations} >= {"models_list_models", "rounds_list_rounds", "jobs_retry"}
    assert all("4XX" in operation["responses"] for operation in operations)


async def test_metrics__a_round_settled_and_one_running__say_so_and_the_escrow_adds_up(told: Bench) -> None:
    read = await scrape(metrics.reads(told.world))
    assert declared(metrics) <= read.names
    assert read.value("models", state="open") == 2
    assert (read.value("rounds", state="settled"), read.value("rounds", state="submitting")) == (1, 1)
    assert read.value("paid_wei") == 10**18 * 20 // 50 + 10**15
    assert (read.value("escrow_drift_wei"), read.value("chain_cursor_lag_seconds"), read.value("scrape_incomplete")) == (0, 0, 0)
    head, final, cursor = (read.value(f"chain_{name}_block") for name in ("head", "finalized", "cursor"))
    assert final is not None
    assert (head, cursor) == (final + 2, final)
    assert read.value("jobs", kind="contribute", state="planned") == 4
    read.require_impersonal()


async def test_metrics__escrow_after_withdrawals_and_forced_ether__differs_by_what_was_forced(
    told: Bench, market: Market, fresh_anvil: Anvil
) -> None:
    market.send(market.lender, "closeModel", 2)
    market.send(market.lender, "withdraw")
    contract = told.world.contracts.repository.address
    fresh_anvil.call("anvil_setBalance", contract, hex(int(fresh_anvil.call("eth_getBalance", contract, "latest"), 16) + 5))
    market.finalise()
    await told.catch_up()
    assert (await scrape(metrics.reads(told.world))).value("escrow_drift_wei") == 5


async def test_metrics__the_chain_is_silent__the_tables_are_told_all_the_same(told: Bench, fresh_anvil: Anvil) -> None:
    fresh_anvil.stop()
    read = await scrape(metrics.reads(told.world))
    assert read.value("models", state="open") == 2
    assert (read.value("scrape_incomplete", neighbour="database"), read.value("scrape_incomplete", neighbour="chain")) == (0, 1)
    assert read.value("chain_head_block") is None


def test_migrations__database_of_the_first_release__keeps_its_cursor_events_and_jobs(database_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "services/coordinator/migrations"))
    config.attributes["url"] = database_url
    command.upgrade(config, "0001")
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                """insert into chain_cursor (id, chain_id, repository_address, block_number, block_hash, timestamp)
                   values (1, 7, '0x', 42, 'h', 5)"""
            )
        )
        connection.execute(
            text(
                """insert into chain_events (block_hash, log_index, block_number, transaction_hash, timestamp, kind, plain)
                   values ('h', 0, 42, 't', 5, 'ModelCreated', '{}')"""
            )
        )
        connection.execute(
            text(
                """insert into jobs (business_key, kind, service, model_id, occasion, state, attempts, crashes)
                   values ('k', 'open_round', 'lender', 1, '', 'done', 1, 0)"""
            )
        )
    migrate(database_url)
    with engine.connect() as connection:
        cursor = connection.execute(text("select block_number, block_hash, deployment_address from chain_cursor")).one()
        event = connection.execute(text("select kind, contract, deployment_id from chain_events")).one()
        job = connection.execute(text("select business_key, state, request_id from jobs")).one()
    engine.dispose()
    assert (tuple(cursor), tuple(event), tuple(job)) == (
        (42, "h", None), ("ModelCreated", "ModelRepository", None), ("k", "done", None),
    )  # fmt: skip


def test_migrations__brought_to_head__equal_the_tables(database_url: str) -> None:
    migrate(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        options: dict[str, Callable[..., bool]] = {
            "include_name": lambda name, kind, _parents: not (kind == "table" and str(name).startswith("procrastinate_"))
        }
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    engine.dispose()
    assert differences == []
