"""The dispatcher on a real Postgres, with neighbours that record what they are asked: order, locks, retries, and what is set aside."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coordinator import dispatcher as dispatcher_module
from coordinator import jobs as jobs_module
from coordinator import queue, serving_repository
from coordinator.clients.lender import LenderClient
from coordinator.clients.owner import OwnerClient
from coordinator.clients.trainer import TrainerClient
from coordinator.dispatcher import Dispatcher
from coordinator.handlers import Handlers
from coordinator.jobs import CRASH_LIMIT, JobKind, JobSpec, Service
from coordinator.migration import migrate
from coordinator.projection import CohortView, MemberView, ModelView, RoundView
from coordinator.repository import found_cursor, save_model
from coordinator.serving import DeploymentView, RequestView, ServingView
from coordinator.tables import Job
from hessian.chain.blocks import Block, BlockHash
from hessian.chain.deployment_records import RequestState
from hessian.chain.records import ModelState, RoundState, SplitRule
from hessian.identifiers import (
    Address,
    BlockNumber,
    ChainId,
    CohortId,
    DeploymentId,
    Digest,
    ErrorUnits,
    ModelId,
    RequestId,
    RoundId,
    Timestamp,
    Wei,
    digest_of,
)
from hessian.postgres.engine import Database, open_database
from hessian.service.client import ServiceClient
from hessian.testing import MemoryStore

MANIFEST, WEIGHTS, ARTIFACT = b"the manifest", b"the weights", b"a masked gradient"
MEMBERS = [Address(f"0x{number:040X}") for number in range(1, 6)]
TOKEN = "the coordinator's token"
Answering = Callable[[Request], Awaitable[Response]]


@dataclass
class Node:
    """All neighbours in one app. `answers` overrides the answer of a path; `asked` records every request in order."""

    store: MemoryStore = field(default_factory=MemoryStore)
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Answering] = field(default_factory=dict)
    inside: Counter[str] = field(default_factory=Counter)
    most_inside: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT"])])

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append((request.method, path))
        self.headers.append(dict(request.headers))
        self.bodies[path] = await request.body()
        for name, answer in self.answers.items():
            if name in path:
                return await answer(request)
        return self.usual(path)

    def usual(self, path: str) -> Response:
        """What a healthy neighbour answers."""
        if path == "/v1/contributions":
            digests = {"manifest_digest": "0x" + digest_of(MANIFEST).hex(), "weights_digest": "0x" + digest_of(WEIGHTS).hex()}
            return JSONResponse({"outcome": "ticket", "ticket": "one-time-ticket", **digests})
        if path == "/v1/gradient-steps":
            return Response(ARTIFACT, media_type="application/vnd.ipld.dag-cbor")
        if path.endswith("/artifact"):
            return JSONResponse({"gradient_digest": "0x" + digest_of(self.bodies[path]).hex()})
        return JSONResponse({"outcome": "done"})

    def fail(self, path: str, *statuses: int, title: str = "Broken") -> None:
        """Answer with these statuses first, in turn, then as usual."""
        left = iter(statuses)

        async def answer(request: Request) -> Response:
            for status in left:
                return JSONResponse({"title": title, "detail": "as the test wants it"}, status_code=status)
            return self.usual(request.url.path)

        self.answers[path] = answer

    def always(self, path: str, body: Any, status: int = 200) -> None:
        """Answer this, for ever."""

        async def answer(_request: Request) -> Response:
            return JSONResponse(body, status_code=status)

        self.answers[path] = answer

    def paths(self) -> list[str]:
        return [path for _, path in self.asked]


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds: a database is no asyncio.Event."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.02)


@dataclass
class Bench:
    """One database, its dispatcher, its neighbours."""

    url: str
    database: Database
    node: Node

    @asynccontextmanager
    async def dispatching(self, *, concurrency: int = 8, stalled_seconds: float = 2.0) -> AsyncIterator[None]:
        transport = httpx.ASGITransport(app=self.node.app(), raise_app_exceptions=False)
        clients = {
            name: ServiceClient(name, f"http://{name}", TOKEN, transport=transport) for name in ("lender-api", "owner-api", "trainer")
        }
        handlers = Handlers(
            self.node.store,
            lender=LenderClient(clients["lender-api"]),
            owner=OwnerClient(clients["owner-api"]),
            trainer=TrainerClient(clients["trainer"]),
        )
        worker = Dispatcher(self.database, make_url(self.url), handlers, concurrency=concurrency, stalled_seconds=stalled_seconds)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run(stop))
            try:
                yield
            finally:
                stop.set()
        for client in clients.values():
            await client.close()

    async def plan(self, *specs: JobSpec) -> list[int]:
        async with self.database.begin() as session:
            return await queue.plan_jobs(session, specs)

    async def job(self, job_id: int) -> Job:
        async with self.database.begin() as session:
            return await session.get_one(Job, job_id)

    async def until(self, state: str, *job_ids: int) -> list[Job]:
        """Wait until all of them are there."""

        async def there() -> bool:
            return all([(await self.job(job_id)).state == state for job_id in job_ids])

        await eventually(there)
        return [await self.job(job_id) for job_id in job_ids]

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.database.begin() as session:
            await session.execute(text(statement), values)

    async def entries(self) -> list[tuple[Any, ...]]:
        async with self.database.begin() as session:
            return [tuple(row) for row in await session.execute(text("select status::text, worker_id from procrastinate_jobs order by id"))]


def member_job(kind: JobKind = JobKind.CONTRIBUTE, *, member: Address = MEMBERS[0], round_id: int = 7) -> JobSpec:
    return JobSpec(kind=kind, service=Service.OWNER, model_id=ModelId(1), cohort_id=CohortId(2), round_id=RoundId(round_id), member=member)


def lender_job(kind: JobKind, **values: Any) -> JobSpec:
    return JobSpec(kind=kind, service=Service.LENDER, model_id=ModelId(1), **values)


def owner_request(kind: JobKind) -> JobSpec:
    return JobSpec(kind=kind, service=Service.OWNER, model_id=ModelId(1), request_id=RequestId(12))


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(jobs_module, "LONGEST_DELAY", 0.1)
    monkeypatch.setattr(dispatcher_module, "PICK_UP_SECONDS", 0.02)


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    migrate(database_url)
    node = Node()
    await node.store.put(MANIFEST)
    await node.store.put(WEIGHTS)
    async with open_database(database_url) as database:
        yield Bench(database_url, database, node)


async def test_contribute__everything_well__ticket_trainer_artifact_pin_submit(bench: Bench) -> None:
    pinned_before_submit = []

    async def submit(_request: Request) -> Response:
        pinned_before_submit.append(await bench.node.store.is_pinned(digest_of(ARTIFACT)))
        return JSONResponse({"outcome": "done"})

    bench.node.answers["/submit"] = submit
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():
        (job,) = await bench.until("done", job_id)
    prefix = f"/v1/contributions/7/{MEMBERS[0]}"
    assert bench.node.paths() == ["/v1/contributions", "/v1/gradient-steps", f"{prefix}/artifact", f"{prefix}/submit"]
    assert pinned_before_submit == [True]
    assert base64.b64encode(MANIFEST) in bench.node.bodies["/v1/gradient-steps"]
    assert digest_of(ARTIFACT).hex().encode() in bench.node.bodies[f"{prefix}/submit"]
    assert {headers["authorization"] for headers in bench.node.headers} == {f"Bearer {TOKEN}"}
    assert {headers["x-correlation-id"] for headers in bench.node.headers} == {"round-7"}
    assert (job.attempts, job.reason) == (1, None)
    assert await bench.entries() == []


async def test_contribute__an_artifact_was_stored_before__that_one_is_published(bench: Bench) -> None:
    first = b"the artifact of an earlier attempt"
    answer = {"gradient_digest": "0x" + digest_of(first).hex(), "artifact": base64.b64encode(first).decode()}
    bench.node.always("/artifact", answer)
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():
        await bench.until("done", job_id)
    assert await bench.node.store.is_pinned(digest_of(first))
    assert not await bench.node.store.is_pinned(digest_of(ARTIFACT))
    assert digest_of(first).hex().encode() in bench.node.bodies[f"/v1/contributions/7/{MEMBERS[0]}/submit"]


async def test_contribute__stored_artifact_is_not_what_its_digest_says__nothing_is_submitted(bench: Bench) -> None:
    bench.node.always("/artifact", {"gradient_digest": "0x" + "ab" * 32})
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():
        await bench.until("set_aside", job_id)
    assert not [path for path in bench.node.paths() if path.endswith("/submit")]


@pytest.mark.parametrize(("outcome", "state"), [("foreign", "foreign"), ("done", "done"), ("superseded", "done"), ("refused", "set_aside")])
async def test_contribute__nothing_to_compute__trainer_is_not_asked(bench: Bench, outcome: str, state: str) -> None:
    bench.node.always("/v1/contributions", {"outcome": outcome, "reason": "because"})
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():
        (job,) = await bench.until(state, job_id)
    assert bench.node.paths()[0] == "/v1/contributions"
    assert "/v1/gradient-steps" not in bench.node.paths()
    assert job.reason == "because"


@pytest.mark.parametrize(
    ("spec", "method", "path"),
    [
        (lender_job(JobKind.OPEN_ROUND, cohort_id=CohortId(2)), "POST", "/v1/cohorts/2/rounds"),
        (lender_job(JobKind.ACCEPT_SUBMISSIONS, round_id=RoundId(7)), "POST", "/v1/rounds/7/accept"),
        (lender_job(JobKind.EVALUATE_ROUND, round_id=RoundId(7)), "POST", "/v1/rounds/7/evaluate"),
        (lender_job(JobKind.EXPIRE_ROUND, round_id=RoundId(7)), "POST", "/v1/rounds/7/expire"),
        (lender_job(JobKind.CONCLUDE_MODEL), "POST", "/v1/models/1/conclude"),
        (JobSpec(kind=JobKind.ANNOUNCE_MODEL, service=Service.OWNER, model_id=ModelId(1)), "PUT", "/v1/catalogue/1"),
        (
            JobSpec(kind=JobKind.LEAVE_COHORT, service=Service.OWNER, model_id=ModelId(1), cohort_id=CohortId(2)),
            "POST",
            "/v1/cohorts/2/leave",
        ),
        (
            JobSpec(kind=JobKind.EXPIRE_ROUND, service=Service.OWNER, model_id=ModelId(1), round_id=RoundId(7)),
            "POST",
            "/v1/rounds/7/expire",
        ),
        (lender_job(JobKind.ANSWER_SCORE, request_id=RequestId(12)), "POST", "/v1/requests/12/answer"),
        (owner_request(JobKind.READ_ANSWER), "POST", "/v1/requests/12/conclusion"),
        (owner_request(JobKind.EXPIRE_REQUEST), "POST", "/v1/requests/12/expiry"),
        (member_job(JobKind.UNLOCK), "POST", f"/v1/contributions/7/{MEMBERS[0]}/unlock"),
        (member_job(JobKind.CONCLUDE_CONTRIBUTION), "POST", f"/v1/contributions/7/{MEMBERS[0]}/conclude"),
        (member_job(JobKind.ABANDON), "POST", f"/v1/contributions/7/{MEMBERS[0]}/abandon"),
    ],
    ids=lambda value: value.business_key if isinstance(value, JobSpec) else None,
)
async def test_dispatch__each_kind__asks_its_neighbour_once(bench: Bench, spec: JobSpec, method: str, path: str) -> None:
    (job_id,) = await bench.plan(spec)
    assert await bench.plan(spec) == []
    async with bench.dispatching():
        await bench.until("done", job_id)
    assert bench.node.asked == [(method, path)]
    assert bench.node.headers[0]["x-correlation-id"] == spec.subject


@pytest.mark.parametrize("place", ["/v1/contributions", "/v1/gradient-steps", "/artifact", "/submit"])
async def test_dispatch__neighbour_unavailable_for_a_while__tried_until_it_answers(bench: Bench, place: str) -> None:
    if place == "/v1/contributions":
        bench.node.fail(place, 503, 503, 429)
    else:
        bench.node.fail(place, 503, 502, 503)
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():
        (job,) = await bench.until("done", job_id)
    assert job.attempts == 4
    assert job.crashes == 0
    assert await bench.node.store.is_pinned(digest_of(ARTIFACT))


async def test_dispatch__content_missing_on_ipfs__waits_for_it(bench: Bench) -> None:
    blocks, bench.node.store.blocks = bench.node.store.blocks, {}
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():

        async def waits() -> bool:
            job = await bench.job(job_id)
            return job.attempts >= 3 and job.state == "planned" and "is not here" in (job.reason or "")

        await eventually(waits)
        bench.node.store.blocks = blocks
        await bench.until("done", job_id)


async def test_dispatch__refused__set_aside_with_the_reason_and_nobody_waits(bench: Bench) -> None:
    bench.node.fail("/unlock", *[409] * 50, title="RoundNotUnlocking")
    poison, healthy = await bench.plan(member_job(JobKind.UNLOCK), member_job(JobKind.CONCLUDE_CONTRIBUTION))
    async with bench.dispatching(concurrency=1):
        (job,) = await bench.until("set_aside", poison)
        await bench.until("done", healthy)
    assert job.attempts == 1
    assert job.reason == "owner-api answered 409 RoundNotUnlocking: as the test wants it"


@pytest.mark.parametrize("status", [422, 500])
async def test_dispatch__contribution_set_aside__the_member_leaves_instead(bench: Bench, status: int) -> None:
    bench.node.fail("/v1/gradient-steps", *[status] * 50)
    (job_id,) = await bench.plan(member_job())
    async with bench.dispatching():
        await bench.until("set_aside", job_id)
        await bench.until("done", job_id + 1)
    path = f"/v1/contributions/7/{MEMBERS[0]}/abandon"
    assert bench.node.paths()[-1] == path
    assert json.loads(bench.node.bodies[path]) == {"reason": "its contribution was set aside"}


async def test_dispatch__gradient_step_that_hangs__does_not_hold_up_leaving(bench: Bench) -> None:
    never = asyncio.Event()

    async def hang(_request: Request) -> Response:
        await never.wait()
        raise AssertionError

    bench.node.answers["/v1/gradient-steps"] = hang
    (_, leaving) = await bench.plan(member_job(), member_job(JobKind.ABANDON))
    async with bench.dispatching():
        await bench.until("done", leaving)
        never.set()


async def test_dispatch__set_aside_and_tried_again_by_an_operator__done(bench: Bench) -> None:
    bench.node.fail("/unlock", 409)
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    async with bench.dispatching():
        await bench.until("set_aside", job_id)
        async with bench.database.begin() as session:
            await queue.try_again(session, job_id)
        (job,) = await bench.until("done", job_id)
    assert job.attempts == 2


async def test_dispatch__neighbour_breaks_every_time__set_aside_after_a_few_attempts(bench: Bench) -> None:
    bench.node.fail("/v1/gradient-steps", *[500] * 50, title="JobCrashed")
    (poison,) = await bench.plan(member_job())
    async with bench.dispatching():
        (job,) = await bench.until("set_aside", poison)
    assert job.attempts == CRASH_LIMIT
    assert job.reason is not None
    assert "JobCrashed" in job.reason


async def test_dispatch__own_bug__set_aside_without_quoting_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_arguments: Any) -> None:
        raise RuntimeError("income 41000")

    monkeypatch.setattr(OwnerClient, "unlock", broken)
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    async with bench.dispatching():
        (job,) = await bench.until("set_aside", job_id)
    assert (job.attempts, job.reason) == (CRASH_LIMIT, f"failed {CRASH_LIMIT} times: the coordinator met a RuntimeError; see its log")


async def test_dispatch__many_jobs__one_at_a_time_for_a_member_and_members_in_parallel(bench: Bench) -> None:
    everybody_in = asyncio.Event()

    async def answer(request: Request) -> Response:
        member = request.url.path.split("/")[4]
        for name in (member, "all"):
            bench.node.inside[name] += 1
            bench.node.most_inside[name] = max(bench.node.most_inside[name], bench.node.inside[name])
        if bench.node.inside["all"] == len(MEMBERS):
            everybody_in.set()
        await asyncio.wait_for(everybody_in.wait(), 10)  # nobody leaves before all members are in at once
        await asyncio.sleep(0)
        for name in (member, "all"):
            bench.node.inside[name] -= 1
        return JSONResponse({"outcome": "done"})

    bench.node.answers["/v1/contributions/"] = answer
    kinds = (JobKind.UNLOCK, JobKind.CONCLUDE_CONTRIBUTION)
    planned = await bench.plan(*(member_job(kind, member=member) for member in MEMBERS for kind in kinds))
    async with bench.dispatching():
        await bench.until("done", *planned)
    assert bench.node.most_inside.pop("all") == len(MEMBERS)
    assert set(bench.node.most_inside.values()) == {1}


async def test_dispatch__two_workers_on_one_queue__each_job_once(bench: Bench) -> None:
    planned = await bench.plan(*(member_job(JobKind.UNLOCK, member=member, round_id=n) for member in MEMBERS for n in range(1, 9)))
    async with bench.dispatching(), bench.dispatching():
        jobs = await bench.until("done", *planned)
    assert {job.attempts for job in jobs} == {1}
    assert len(bench.node.asked) == len(planned)


async def test_dispatch__worker_vanished_in_the_middle__another_takes_over(bench: Bench) -> None:
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    await bench.execute("update jobs set state = 'dispatched', attempts = 1")
    await bench.execute("insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 minute')")
    await bench.execute("update procrastinate_jobs set status = 'doing', worker_id = (select max(id) from procrastinate_workers)")
    async with bench.dispatching():
        (job,) = await bench.until("done", job_id)
    assert (job.attempts, job.crashes) == (2, 1)


async def test_dispatch__process_dies_at_the_same_job_again_and_again__set_aside(bench: Bench) -> None:
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    await bench.execute("update jobs set state = 'dispatched', attempts = :n, crashes = :n", n=CRASH_LIMIT - 1)
    async with bench.dispatching():
        (job,) = await bench.until("set_aside", job_id)
    assert bench.node.asked == []
    assert job.reason == f"the coordinator ended {CRASH_LIMIT} times while it did this"


async def test_dispatch__living_worker_forgot_an_entry__it_is_given_back(bench: Bench) -> None:
    async with bench.dispatching():
        (first,) = await bench.plan(member_job(JobKind.UNLOCK))
        await bench.until("done", first)
        (job_id,) = await bench.plan(member_job(JobKind.UNLOCK, round_id=8))
        await bench.until("done", job_id)
        await bench.execute("update jobs set state = 'planned' where id = :id", id=job_id)
        await bench.execute(
            """insert into procrastinate_jobs (queue_name, task_name, args, status, worker_id)
               select 'coordinator', 'dispatch', jsonb_build_object('job_id', cast(:id as bigint)), 'doing', max(id)
               from procrastinate_workers""",
            id=job_id,
        )
        (job,) = await bench.until("done", job_id)
    assert job.attempts == 2


async def test_dispatch__job_without_a_queue_entry__queued_again_at_the_start(bench: Bench) -> None:
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    await bench.execute("delete from procrastinate_jobs")
    async with bench.dispatching():
        await bench.until("done", job_id)


async def test_dispatch__round_has_moved_on__nobody_is_asked(bench: Bench) -> None:
    await save_round(bench.database, RoundState.ACCEPTING)
    contribute, accept = await bench.plan(member_job(), lender_job(JobKind.ACCEPT_SUBMISSIONS, cohort_id=CohortId(2), round_id=RoundId(7)))
    async with bench.dispatching():
        (old, _) = await bench.until("done", contribute, accept)
    assert bench.node.paths() == ["/v1/rounds/7/accept"]
    assert old.reason == "superseded: round 7 is accepting"


async def test_dispatch__request_was_answered_meanwhile__nobody_is_asked_but_the_borrowers_node(bench: Bench) -> None:
    await save_round(bench.database, RoundState.SETTLED)
    digest, now = Digest(b"d" * 32), Timestamp(1_000_000)
    deployment = DeploymentView(DeploymentId(3), ModelId(1), MEMBERS[4], Wei(5), 60, digest, digest, now)
    request = RequestView(RequestId(12), DeploymentId(3), MEMBERS[0], RequestState.ANSWERED, now, digest, now, digest, now)
    async with bench.database.begin() as session:
        await serving_repository.save(session, None, ServingView(deployment, request))
    answer = lender_job(JobKind.ANSWER_SCORE, request_id=RequestId(12))
    planned = await bench.plan(answer, owner_request(JobKind.EXPIRE_REQUEST), owner_request(JobKind.READ_ANSWER))
    async with bench.dispatching():
        jobs = await bench.until("done", *planned)
    assert bench.node.paths() == ["/v1/requests/12/conclusion"]
    assert [job.reason for job in jobs] == ["superseded: request 12 is answered"] * 2 + [None]


@pytest.mark.parametrize(("title", "again"), [("QueryNotFound", 1), ("LookupRefused", 20)])
async def test_dispatch__request_that_cannot_be_answered_yet__gives_way_to_all_others_if_nobody_has_its_query(
    bench: Bench, title: str, again: int
) -> None:
    async def priorities() -> list[int]:
        async with bench.database.begin() as session:
            return list((await session.execute(text("select priority from procrastinate_jobs"))).scalars())

    bench.node.always("/v1/requests/12/answer", {"title": title, "detail": "as the test wants it"}, status=503)
    (job_id,) = await bench.plan(lender_job(JobKind.ANSWER_SCORE, request_id=RequestId(12)))
    assert await priorities() == [20]
    async with bench.dispatching():

        async def tried_again() -> bool:
            return (await bench.job(job_id)).attempts >= 2

        await eventually(tried_again)
    assert await priorities() == [again]


async def test_dispatch__three_announcements_of_one_model_wait__the_newest_is_made(bench: Bench) -> None:
    announcements = [
        JobSpec(kind=JobKind.ANNOUNCE_MODEL, service=Service.OWNER, model_id=ModelId(model), occasion=f"block-{block}")
        for model, block in ((1, 1), (1, 2), (2, 2), (1, 3))
    ]
    planned = await bench.plan(*announcements)
    async with bench.dispatching():
        jobs = await bench.until("done", *planned)
    assert sorted(bench.node.paths()) == ["/v1/catalogue/1", "/v1/catalogue/2"]
    assert [job.reason for job in jobs] == ["superseded: a newer announcement waits"] * 2 + [None, None]


async def test_stop__attempt_in_flight_longer_than_the_grace__goes_back_and_is_done_by_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "GRACE_SECONDS", 0.05)
    begun = asyncio.Event()

    async def never(_request: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.node.answers["/unlock"] = never
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    async with bench.dispatching():
        await asyncio.wait_for(begun.wait(), 10)
    job = await bench.job(job_id)
    assert (job.state, job.reason, job.crashes) == ("planned", "the coordinator stopped", 0)
    bench.node.answers.clear()
    async with bench.dispatching():
        await bench.until("done", job_id)


async def test_run__database_drops_every_connection__recovers_by_itself(bench: Bench) -> None:
    async with bench.dispatching():
        (before,) = await bench.plan(member_job(JobKind.UNLOCK))
        await bench.until("done", before)
        await bench.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()"""
        )
        (after,) = await bench.plan(member_job(JobKind.UNLOCK, round_id=8))
        await bench.until("done", after)


async def test_move__attempt_that_lost_its_job__changes_nothing(bench: Bench) -> None:
    """The attempt's number is the fence."""
    (job_id,) = await bench.plan(member_job(JobKind.UNLOCK))
    async with bench.database.begin() as session:
        stale = await queue.claim(session, job_id)
    async with bench.database.begin() as session:
        current = await queue.claim(session, job_id)
    assert stale is not None
    assert current is not None
    async with bench.database.begin() as session:
        assert not await queue.move(session, stale, jobs_module.JobState.SET_ASIDE, "late", crashes=9)
    async with bench.database.begin() as session:
        assert await queue.move(session, current, jobs_module.JobState.DONE, None, crashes=current.crashes)
        assert not await queue.move(session, current, jobs_module.JobState.PLANNED, None, crashes=0)
    assert (await bench.job(job_id)).state == "done"


async def save_round(database: Database, state: RoundState) -> None:
    """A model whose round 7 stands there, as the watcher would have left it."""
    digest, now = Digest(b"d" * 32), Timestamp(1_000_000)
    cohort = CohortView(CohortId(2), ModelId(1), is_sealed=True, total_rows=10, members=(MemberView(MEMBERS[0], 10),))
    current = RoundView(RoundId(7), ModelId(1), CohortId(2), 1, state, Timestamp(now + 60), digest, ErrorUnits(9), opened_at=now)
    model = ModelView(
        model_id=ModelId(1),
        lender=MEMBERS[4],
        state=ModelState.OPEN,
        bounty=Wei(1),
        base_fee=Wei(1),
        initial_error=ErrorUnits(9),
        target_error=ErrorUnits(1),
        best_error=ErrorUnits(9),
        max_rounds=8,
        cohort_size=1,
        split_rule=SplitRule.EQUAL,
        training_deadline=Timestamp(now + 9999),
        manifest_digest=digest,
        weights_digest=digest,
        created_at=now,
        rounds_opened=1,
    )
    block = Block(BlockNumber(1), BlockHash("0x" + "01" * 32), BlockHash("0x" + "00" * 32), now)
    async with database.begin() as session:
        await found_cursor(session, ChainId(1), MEMBERS[0], MEMBERS[1], block)
        await save_model(session, None, model.with_cohort(cohort).with_round(current))
