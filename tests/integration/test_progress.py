"""The stream of progress over a real HTTP server and a real Postgres: nothing left out, nothing twice, whoever hangs up or is slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url, text

from coordinator.app import create_app
from coordinator.dispatcher import Dispatcher
from coordinator.handlers import Handlers
from coordinator.jobs import Service
from coordinator.migration import migrate
from coordinator.progress import batches, endpoints, stream
from coordinator.progress.positions import Position, read_stand, take_in
from coordinator.watcher import Watcher
from coordinator.world import World
from devstack.processes import free_port
from hessian.chain.client import Chain
from hessian.chain.contracts import Contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.chain.rpc import Node
from hessian.identifiers import Address, BlockNumber, ChainId
from hessian.postgres.engine import Database, open_database
from hessian.service.process import serve
from hessian.service.tokens import NodeTokens
from hessian.settings import ServiceSettings
from hessian.testing import MemoryStore

TOKENS = {"admin": "a" * 40, "coordinator": "c" * 40, "trainer": "t" * 40}
CONTRACT = Address("0x1111111111111111111111111111111111111111")
PATIENCE = 20.0
ADMIN = {"Authorization": f"Bearer {TOKENS['admin']}"}


@dataclass(frozen=True)
class Told:
    """One event as a reader sees it."""

    name: str
    identity: str
    data: dict[str, Any]


@dataclass
class Bench:
    """A coordinator that only serves; the test writes its tables."""

    database: Database
    http: httpx.AsyncClient
    stop: asyncio.Event

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.database.begin() as session:
            await session.execute(text(statement), values)

    async def plan(self, *ids: int) -> None:
        """Jobs that nobody works on."""
        for number in ids:
            await self.execute(
                """INSERT INTO jobs (id, business_key, kind, service, model_id, occasion, state, attempts, crashes)
                   VALUES (:id, :key, 'announce_model', 'owner', 1, '', 'planned', 0, 0)""",
                id=number,
                key=f"job {number}",
            )

    @asynccontextmanager
    async def reading(self, after: str | None = None, **query: str) -> AsyncIterator[AsyncIterator[Told]]:
        headers = {"Authorization": f"Bearer {TOKENS['coordinator']}"} | ({"Last-Event-ID": after} if after else {})
        async with self.http.stream("GET", "/v1/progress", params=query, headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield told(answer.aiter_lines())


async def told(lines: AsyncIterator[str]) -> AsyncIterator[Told]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif line == "" and "event" in fields:
            yield Told(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


async def take(events: AsyncIterator[Told], count: int, *names: str) -> list[Told]:
    """The next so many, of these names if any are given."""
    taken: list[Told] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            event = await anext(events)
            if not names or event.name in names:
                taken.append(event)
    return taken


@pytest.fixture
async def bench(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(stream, "POLL_SECONDS", 0.02)
    migrate(database_url)
    stop, port = asyncio.Event(), free_port()
    async with open_database(database_url) as database, asyncio.TaskGroup() as tasks:
        chain = Chain(Node("http://127.0.0.1:1"), ChainId(1))
        contracts = Contracts(ModelRepository(chain, CONTRACT), ModelDeployment(chain, CONTRACT))
        world = World(
            database=database,
            contracts=contracts,
            node_tokens=NodeTokens(**TOKENS),
            services=frozenset(Service),
            watcher=Watcher(database, contracts, frozenset(Service), start=BlockNumber(0), range_limit=1, poll_seconds=1.0),
            dispatcher=Dispatcher(database, make_url(database_url), Handlers(MemoryStore()), concurrency=1, stalled_seconds=2.0),
            ready_lag_seconds=30,
        )
        tasks.create_task(serve(create_app(world, stop), ServiceSettings(port=port), stop))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as http:
            await answering(http)
            yield Bench(database, http, stop)
        stop.set()
        await chain.node.close()


async def answering(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await http.get("/healthz")
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(("role", "status"), [(None, 401), ("trainer", 403)])
async def test_progress__without_a_token_that_may_read__is_refused_before_it_begins(bench: Bench, role: str | None, status: int) -> None:
    headers = {} if role is None else {"Authorization": f"Bearer {TOKENS[role]}"}
    answer = await bench.http.get("/v1/progress", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_progress__jobs_rounds_and_cursor_change__each_is_told_with_its_state(bench: Bench) -> None:
    await bench.plan(1)
    async with bench.reading() as events:
        reset, first = await take(events, 2)
        assert (reset.name, first.name, first.data["id"], first.data["state"]) == ("reset", "job", 1, "planned")
        await bench.execute("UPDATE jobs SET state = 'done', reason = 'superseded: late' WHERE id = 1")
        (moved,) = await take(events, 1, "job")
        assert (moved.data["state"], moved.data["reason"]) == ("done", "superseded: late")
        await bench.execute(MODEL)
        await bench.execute(COHORT)
        await bench.execute(ROUND)
        (opened,) = await take(events, 1, "round")
        assert (opened.data["state"], opened.data["submitted"], opened.data["pool_wei"]) == ("submitting", 0, None)
        await bench.execute("INSERT INTO submissions VALUES (7, 0, :member, :digest, 5, NULL)", member=CONTRACT, digest=b"g" * 32)
        assert (await take(events, 1, "round"))[0].data["submitted"] == 1
        await bench.execute("UPDATE submissions SET unlocked_at = 6")
        assert (await take(events, 1, "round"))[0].data["unlocked"] == 1
        await bench.execute(
            "INSERT INTO chain_cursor VALUES (1, 1, :contract, 41, :hash, 99, now())", contract=CONTRACT, hash="0x" + "1" * 64
        )
        (cursor,) = await take(events, 1, "cursor")
        assert cursor.data == {"number": 41, "timestamp": 99}


async def test_progress__hung_up_and_resumed_anywhere__no_gap_and_no_double(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LARGEST", 3)  # less than one transaction writes: a reader may be cut off inside one
    await bench.execute(MANY, first=1, last=20)
    seen: list[Told] = []
    after, more = None, True
    while len(seen) < 40:
        async with bench.reading(after) as events:
            for event in await take(events, min(3 + len(seen) % 5, (20 if more else 40) - len(seen)), "job"):
                seen.append(event)
                after = event.identity
        if len(seen) >= 15 and more:
            await bench.execute(MANY, first=21, last=40)
            more = False
    assert [event.data["id"] for event in seen] == list(range(1, 41))
    assert len({event.identity for event in seen}) == 40


async def test_progress__an_older_transaction_ends_last__is_not_left_out(bench: Bench) -> None:
    await bench.plan(1, 2)
    async with bench.reading() as events:
        await take(events, 2, "job")
        async with bench.database.begin() as session:
            await session.execute(text("UPDATE jobs SET state = 'done' WHERE id = 1"))
            await bench.execute("UPDATE jobs SET state = 'foreign' WHERE id = 2")  # begun later, committed first
        first, second = await take(events, 2, "job")
        assert [(event.data["id"], event.data["state"]) for event in (first, second)] == [(1, "done"), (2, "foreign")]


async def test_progress__a_transaction_that_is_rolled_back__leaves_no_trace(bench: Bench) -> None:
    await bench.plan(1)
    async with bench.reading() as events:
        await take(events, 1, "job")
        async with bench.database.engine.connect() as connection:
            await connection.execute(text("UPDATE jobs SET state = 'done' WHERE id = 1"))
            await connection.rollback()
        await bench.plan(2)
        assert [event.data["id"] for event in await take(events, 1, "job")] == [2]


async def test_progress__many_changes_while_the_reader_is_away__it_finds_the_newest_once(bench: Bench) -> None:
    await bench.plan(1)
    async with bench.reading() as events:
        (before,) = await take(events, 1, "job")
    for attempt in range(1, 30):
        await bench.execute("UPDATE jobs SET attempts = :attempt WHERE id = 1", attempt=attempt)
    await bench.plan(2)
    async with bench.reading(before.identity) as events:
        assert [(event.data["id"], event.data["attempts"]) for event in await take(events, 2, "job")] == [(1, 29), (2, 0)]


async def test_progress__from_now__tells_only_what_comes(bench: Bench) -> None:
    await bench.plan(1, 2)
    async with bench.reading(start="now") as events:
        (reset,) = await take(events, 1)
        assert reset.name == "reset"
    await bench.plan(3)
    async with bench.reading(reset.identity) as events:
        assert [event.data["id"] for event in await take(events, 1, "job")] == [3]


@pytest.mark.parametrize("after", ["nonsense", "0123456789abcdef.5.job.1", "future"])
async def test_progress__an_id_of_another_database__starts_anew_and_says_so(bench: Bench, after: str) -> None:
    await bench.plan(1)
    if after == "future":  # of this cluster, before it was restored to an earlier day
        async with bench.database.begin() as session:
            after = str(Position((await read_stand(session)).epoch, 2**40, "job", 1))
    async with bench.reading(after) as events:
        reset, job = await take(events, 2)
        assert (reset.name, job.data["id"]) == ("reset", 1)


async def test_progress__rows_from_a_backup_of_another_cluster__are_told_after_the_next_start(bench: Bench) -> None:
    await bench.plan(1)
    await bench.execute("UPDATE changes SET changed = 1099511627776")
    async with bench.database.begin() as session:
        await take_in(session)
    async with bench.reading() as events:
        assert [event.data["id"] for event in await take(events, 1, "job")] == [1]


async def test_progress__nothing_happens__heartbeats(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    async with bench.http.stream("GET", "/v1/progress", headers=ADMIN) as answer, asyncio.timeout(PATIENCE):
        heard = 0
        async for line in answer.aiter_lines():
            heard += line.startswith(":")
            if heard == 2:
                break


async def test_progress__a_reader_that_takes_nothing__is_let_go_and_holds_no_more_than_a_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STALLED_SECONDS", 0.3)
    monkeypatch.setattr(endpoints, "MOST_READERS", 1)
    looks, let_go = 0, asyncio.Event()
    monkeypatch.setattr(stream.log, "info", lambda event, **_: let_go.set() if event == "progress_reader_stalled" else None)

    async def counting(*arguments: Any) -> batches.Batch:
        nonlocal looks
        looks += 1
        return await batches.read_batch(*arguments)

    monkeypatch.setattr(stream, "read_batch", counting)
    await bench.execute(MANY, first=1, last=5000)
    await bench.execute("UPDATE jobs SET reason = repeat('because ', 500)")
    _, writer = await asyncio.open_connection("127.0.0.1", bench.http.base_url.port, limit=1024)
    request = f"GET /v1/progress HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {TOKENS['admin']}\r\n\r\n"
    writer.write(request.encode())
    async with asyncio.timeout(PATIENCE):
        await let_go.wait()
    assert looks < 40  # of 51 batches with 25 MB: the sockets took some, nobody kept the rest
    writer.close()
    await until_alone(bench)


async def until_alone(bench: Bench) -> None:
    """Wait until the only place is free again."""
    async with asyncio.timeout(PATIENCE):
        while not await is_admitted(bench):  # noqa: ASYNC110  # a place has no event of its own
            await asyncio.sleep(0.02)


async def is_admitted(bench: Bench) -> bool:
    async with bench.http.stream("GET", "/v1/progress", headers=ADMIN) as answer:
        return answer.status_code == 200


async def test_progress__more_readers_than_places__are_told_to_come_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST_READERS", 1)
    async with bench.reading() as events:
        await take(events, 1)
        refused = await bench.http.get("/v1/progress", headers=ADMIN)
        assert (refused.status_code, refused.json()["title"]) == (503, "TooManyReaders")
    await until_alone(bench)


async def test_progress__the_service_stops__the_stream_ends_and_nobody_waits(bench: Bench) -> None:
    async with bench.reading() as events:
        await take(events, 1)
        bench.stop.set()
        async with asyncio.timeout(PATIENCE):
            assert [event async for event in events] == []


async def test_openapi__of_the_stream__names_its_events(bench: Bench, tmp_path: Path) -> None:
    document = (await bench.http.get("/openapi.json")).json()
    operation = document["paths"]["/v1/progress"]["get"]
    content = operation["responses"]["200"]["content"]
    assert list(content) == ["text/event-stream"]
    assert set(content["text/event-stream"]["x-data"]) == {"round", "job", "cursor"}
    assert operation["operationId"] == "progress_stream"
    assert {"start", "last-event-id"} <= {parameter["name"] for parameter in operation["parameters"]}


MANY = """INSERT INTO jobs (id, business_key, kind, service, model_id, occasion, state, attempts, crashes)
          SELECT n, 'many ' || n, 'announce_model', 'owner', 1, '', 'planned', 0, 0
          FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n"""
MODEL = """INSERT INTO models (
               model_id, lender, state, bounty, base_fee, initial_error, target_error, best_error, max_rounds, cohort_size, split_rule,
               training_deadline, manifest_digest, weights_digest, created_at, is_closed, rounds_opened, rounds_paid, paid, refunded)
           VALUES (1, '0x1111111111111111111111111111111111111111', 'open', 1, 1, 9, 1, 9, 4, 2, 'equal',
               99, '', '', 1, false, 0, 0, 0, 0)"""
COHORT = "INSERT INTO cohorts (cohort_id, model_id, is_sealed, is_closed, total_rows) VALUES (3, 1, true, false, 10)"
ROUND = """INSERT INTO rounds (round_id, model_id, cohort_id, number, state, deadline, weights_digest, error_before, opened_at)
           VALUES (7, 1, 3, 1, 'submitting', 99, '', 9, 4)"""
