"""The coordinator as a process: killed at the watcher's commits and in the middle of jobs, stopped, misconfigured, its chain replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from market import Market
from psycopg.rows import dict_row
from serving_market import ServingMarket
from sqlalchemy import make_url
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from coordinator.jobs import Service
from coordinator.migration import migrate
from coordinator.watcher import Watcher
from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.postgres import SUPERUSER, Postgres
from devstack.processes import free_port
from hessian.chain.client import connect
from hessian.chain.contracts import Contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.postgres.engine import open_database

DEADLY = Path(__file__).with_name("coordinator_process.py")
ORDER = {
    "chain_events": "block_number, log_index",
    "models": "model_id",
    "cohorts": "cohort_id",
    "members": "cohort_id, member_index",
    "rounds": "round_id",
    "submissions": "round_id, member_index",
    "deployments": "deployment_id",
    "requests": "request_id",
}
NOT_COMPARED = {"id"}


@dataclass
class Neighbours:
    """lender-api, owner-api and trainer in one: everything is done at once. `on_request` hears of each request first."""

    port: int
    requests: list[str] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None

    async def answer(self, request: Request) -> JSONResponse:
        self.requests.append(request.url.path)
        self.on_request()
        return JSONResponse({"outcome": "done"})


@dataclass
class Node:
    """A coordinator's surroundings, and how it is started."""

    database: str
    environment: dict[str, str]
    neighbours: Neighbours
    log: Path
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, env=self.environment, stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL
            )
        self.processes.append(process)
        return process

    async def end(self) -> None:
        """Leave nothing running, also where a test failed."""
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, *command: str) -> int:
        """To its end; its exit code."""
        return await asyncio.wait_for((await self.start(*command)).wait(), 60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['HESSIAN_PORT']}"

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110  # another process makes it hold
                await asyncio.sleep(0.05)

    def rows(self, query: str) -> list[dict[str, Any]]:
        return rows(self.database, query)

    def set_password(self, password: str) -> None:
        Path(self.environment["HESSIAN_DATABASE_PASSWORD_FILE"]).write_text(password, encoding="utf-8")

    def jobs_are_over(self) -> bool:
        (left,) = self.rows("select count(*) as left from jobs where state not in ('done', 'foreign')")
        (entries,) = self.rows("select count(*) as left from procrastinate_jobs")
        return (left["left"], entries["left"]) == (0, 0)

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            with contextlib.suppress(httpx.HTTPError):
                response = await http.get(f"{self.url}/readyz")
                return response.is_success
        return False

    async def until_ready(self) -> None:
        async with asyncio.timeout(60):
            while not await self.is_ready():  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.05)


def rows(database: str, query: str) -> list[dict[str, Any]]:
    conninfo = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def dump(database: str) -> dict[str, Any]:
    """What another run over the same chain must reproduce."""
    found: dict[str, Any] = {}
    for table, order in ORDER.items():
        found[table] = [
            {name: value for name, value in row.items() if name not in NOT_COMPARED}
            for row in rows(database, f"select * from {table} order by {order}")
        ]
    found["jobs"] = [row["business_key"] for row in rows(database, "select business_key from jobs order by business_key")]
    return found


@pytest.fixture
async def neighbours() -> AsyncIterator[Neighbours]:
    made = Neighbours(free_port())
    app = Starlette(routes=[Route("/{path:path}", made.answer, methods=["POST", "PUT"])])
    server = uvicorn.Server(uvicorn.Config(app, port=made.port, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server._serve())  # without its signal handlers: pytest keeps its own
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield made
    server.should_exit = True
    await serving


@pytest.fixture
async def node(
    database_url: str,
    fresh_anvil: Anvil,
    fresh_repository: Deployment,
    fresh_serving: Deployment,
    block_store: str,
    neighbours: Neighbours,
    tmp_path: Path,
) -> AsyncIterator[Node]:
    url = make_url(database_url)
    secrets = {"admin_token": "a" * 40, "coordinator_token": "c" * 40, "database_password": str(url.password)}
    files = {}
    for name, secret in secrets.items():
        files[name] = tmp_path / name
        files[name].touch(mode=0o600)
        files[name].write_text(secret, encoding="utf-8")
    neighbour = f"http://127.0.0.1:{neighbours.port}"
    values = {
        "port": free_port(),
        "admin_token_file": files["admin_token"],
        "coordinator_token_file": files["coordinator_token"],
        "database_url": f"{url.drivername}://{url.username}@{url.host}:{url.port}/{url.database}",
        "database_password_file": files["database_password"],
        "rpc_url": fresh_anvil.url,
        "chain_id": fresh_anvil.chain_id,
        "repository_address": fresh_repository.address,
        "repository_block": fresh_repository.block,
        "deployment_address": fresh_serving.address,
        "ipfs_url": block_store,
        "lender_url": neighbour,
        "owner_url": neighbour,
        "trainer_url": neighbour,
        "poll_seconds": 0.05,
        "range_limit": 1,
        "stalled_seconds": 2,
        "log_level": "INFO",
    }
    environment = {f"HESSIAN_{name.upper()}": str(value) for name, value in values.items()} | {"PATH": os.environ["PATH"]}
    made = Node(database_url, environment, neighbours, tmp_path / "coordinator.log")
    yield made
    await made.end()


@pytest.fixture
def market(fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment) -> Market:
    """Two rounds of a cohort of two; the second reaches the target; two requests for its scores, one answered; refund."""
    market = Market(fresh_anvil, fresh_repository)
    model_id = market.create_model(cohort_size=2)
    cohort_id, members = market.seal_cohort(model_id)
    market.run_round(cohort_id, members, new_error=230_000_000)
    market.run_round(cohort_id, members, new_error=190_000_000)
    serving = ServingMarket(market, fresh_serving, model_id)
    deployment_id = serving.deploy()
    serving.answer(serving.request(deployment_id)[0])
    serving.request(deployment_id)
    market.send(market.lender, "closeModel", model_id)
    market.finalise()
    return market


@pytest.fixture
async def reference(new_database: Callable[..., str], market: Market, fresh_serving: Deployment) -> dict[str, Any]:
    """The tables of a coordinator that nothing ever happened to."""
    url = new_database()
    migrate(url)
    async with open_database(url) as database, connect(market.anvil.url) as chain:
        contracts = Contracts(ModelRepository(chain, market.deployment.address), ModelDeployment(chain, fresh_serving.address))
        watcher = Watcher(database, contracts, frozenset(Service), start=market.deployment.block, range_limit=1, poll_seconds=1)
        while await watcher.step():
            pass
    return dump(url)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_kill__at_the_watchers_commits__every_event_once_and_no_job_lost_or_doubled(
    node: Node, reference: dict[str, Any], when: str
) -> None:
    migrate(node.database)
    for commit in (1, 4):
        assert await node.run(str(DEADLY), when, str(commit)) == -signal.SIGKILL, node.log.read_text(encoding="utf-8")
    survivor = await node.start("-m", "coordinator")
    await node.until(lambda: dump(node.database) == reference and node.jobs_are_over())
    survivor.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(survivor.wait(), 30) == 0
    assert dump(node.database) == reference
    gaps = node.rows(
        """select b.first_number from chain_blocks b left join chain_blocks p
           on p.last_number = b.first_number - 1 and p.last_hash = b.first_parent_hash where p.first_number is null"""
    )
    assert [row["first_number"] for row in gaps] == [1]


async def test_kill__in_the_middle_of_jobs__they_are_finished_after_the_restart(node: Node, reference: dict[str, Any]) -> None:
    migrate(node.database)
    process = await node.start("-m", "coordinator")

    def kill_at_the_fifth() -> None:
        if len(node.neighbours.requests) == 5:
            process.kill()

    node.neighbours.on_request = kill_at_the_fifth
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    survivor = await node.start("-m", "coordinator")
    await node.until(lambda: dump(node.database) == reference and node.jobs_are_over())
    survivor.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(survivor.wait(), 30) == 0
    assert [row for row in node.rows("select * from jobs") if row["attempts"] > 1]


async def test_stop__serving__ends_with_code_0(node: Node, market: Market) -> None:
    assert await node.run("-m", "coordinator", "migrate") == 0
    process = await node.start("-m", "coordinator")
    await node.until_ready()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_start__database_not_migrated__one_plain_sentence_and_code_1(node: Node) -> None:
    assert await node.run("-m", "coordinator") == 1
    said = node.log.read_text(encoding="utf-8")
    assert "run `python -m coordinator migrate`" in said
    assert "Traceback" not in said


async def test_start__trainer_missing_beside_the_owner__names_the_variables(node: Node) -> None:
    del node.environment["HESSIAN_TRAINER_URL"]
    assert await node.run("-m", "coordinator") == 2
    assert "HESSIAN_OWNER_URL and HESSIAN_TRAINER_URL belong together" in node.log.read_text(encoding="utf-8")


async def test_run__final_block_replaced__the_whole_process_ends_loudly(node: Node, market: Market, fresh_anvil: Anvil) -> None:
    """Watcher, dispatcher and API die together."""
    migrate(node.database)
    fresh_anvil.mine(5)
    process = await node.start("-m", "coordinator")
    await node.until_ready()
    final = fresh_anvil.final()
    await node.until(lambda: node.rows("select block_number from chain_cursor") == [{"block_number": final}])
    fresh_anvil.call("anvil_reorg", 4, [])
    assert await asyncio.wait_for(process.wait(), 30) == 1
    assert "finality was broken" in node.log.read_text(encoding="utf-8")


async def test_run__postgres_killed_and_started_again__goes_on_by_itself(
    node: Node, market: Market, reference: dict[str, Any], tmp_path: Path
) -> None:
    """Pools recover, nothing is half-done, the process lives."""
    server = Postgres(tmp_path / "postgres", tmp_path / "postgres.log", durable=True)
    server.start()
    try:
        server.create_database("node")
        node.database = server.url("node", SUPERUSER, server.password)
        node.environment["HESSIAN_DATABASE_URL"] = server.url("node")
        node.set_password(server.password)
        migrate(node.database)
        process = await node.start("-m", "coordinator")
        await node.until(lambda: bool(node.rows("select 1 from chain_events limit 1")))
        child = server.child
        assert child is not None
        assert child.process is not None
        child.process.send_signal(signal.SIGQUIT)  # immediate shutdown: every session is cut
        child.process.wait()
        assert not await node.is_ready()
        server.start()
        await node.until(lambda: dump(node.database) == reference and node.jobs_are_over())
        await node.until_ready()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        server.stop()
        server.delete()
