"""The watcher on a real chain and a real Postgres: every final event once, nothing that is not final, nothing half-done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from market import Market
from sqlalchemy import text

from coordinator.jobs import Service
from coordinator.migration import migrate
from coordinator.projection import HistoryBroken
from coordinator.repository import OtherContractFollowed, load_model
from coordinator.watcher import Watcher
from devstack.anvil import Anvil
from devstack.contracts import Deployment, deploy_repository
from hessian.chain.blocks import Block
from hessian.chain.client import Chain, connect
from hessian.chain.contracts import Contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.encoding import Undecodable
from hessian.chain.records import ModelState, RoundState
from hessian.chain.repository import ModelRepository
from hessian.errors import ChainDiverged, ChainUnavailable
from hessian.identifiers import BlockNumber, CohortId, ModelId, RoundId
from hessian.postgres.engine import Database, open_database

EVERYONE = frozenset(Service)
PROJECTION = {
    "chain_events": "block_number, log_index",
    "models": "model_id",
    "cohorts": "cohort_id",
    "members": "cohort_id, member_index",
    "rounds": "round_id",
    "submissions": "round_id, member_index",
    "deployments": "deployment_id",
    "requests": "request_id",
    "jobs": "business_key",
}
NOT_COMPARED = {"id", "created_at", "updated_at"}


class Bench:
    """One database that follows both contracts."""

    def __init__(self, database: Database, chain: Chain, deployment: Deployment, serving: Deployment) -> None:
        self.database = database
        self.chain = chain
        self.deployment = deployment
        self.contracts = Contracts(ModelRepository(chain, deployment.address), ModelDeployment(chain, serving.address))

    def watcher(self, *, range_limit: int = 1000, services: frozenset[Service] = EVERYONE, start: int | None = None) -> Watcher:
        block = self.deployment.block if start is None else BlockNumber(start)
        return Watcher(self.database, self.contracts, services, start=block, range_limit=range_limit, poll_seconds=0.02)

    async def catch_up(self, watcher: Watcher | None = None) -> None:
        watcher = watcher or self.watcher()
        while await watcher.step():
            pass

    async def rows(self, query: str, **values: Any) -> list[Any]:
        async with self.database.begin() as session:
            return [tuple(row) for row in await session.execute(text(query), values)]

    async def count(self, table: str) -> int:
        return int((await self.rows(f"select count(*) from {table}"))[0][0])

    async def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that another run over the same chain must reproduce."""
        found = {}
        async with self.database.begin() as session:
            for table, order in PROJECTION.items():
                rows = (await session.execute(text(f"select * from {table} order by {order}"))).mappings()
                found[table] = [{name: value for name, value in row.items() if name not in NOT_COMPARED} for row in rows]
        return found

    async def job_keys(self) -> list[str]:
        return [key for (key,) in await self.rows("select business_key from jobs order by id")]

    async def assert_gapless(self) -> None:
        """Each range's parent is the range before it, from the start to the cursor."""
        orphans = await self.rows(
            """select b.first_number from chain_blocks b left join chain_blocks p
               on p.last_number = b.first_number - 1 and p.last_hash = b.first_parent_hash where p.first_number is null"""
        )
        assert orphans == [(self.deployment.block,)]
        ((covered,),) = await self.rows("select sum(last_number - first_number + 1) from chain_blocks")
        ((cursor, block_hash),) = await self.rows("select block_number, block_hash from chain_cursor")
        assert covered == cursor - self.deployment.block + 1
        assert await self.rows("select 1 from chain_blocks where last_number = :n and last_hash = :h", n=cursor, h=block_hash) == [(1,)]


NewBench = Callable[[], Any]


@pytest.fixture
async def new_bench(
    new_database: Callable[..., str], fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment
) -> NewBench:
    @asynccontextmanager
    async def make() -> AsyncIterator[Bench]:
        url = new_database()
        migrate(url)
        async with open_database(url) as database, connect(fresh_anvil.url) as chain:
            yield Bench(database, chain, fresh_repository, fresh_serving)

    return make


@pytest.fixture
async def bench(new_bench: NewBench) -> AsyncIterator[Bench]:
    async with new_bench() as made:
        yield made


@pytest.fixture
def market(fresh_anvil: Anvil, fresh_repository: Deployment) -> Market:
    return Market(fresh_anvil, fresh_repository)


def tell_a_story(market: Market) -> int:
    """Two rounds of one cohort, one of which reaches the target; a member in the next cohort; refund and withdrawal. The model's id."""
    model_id = market.create_model(cohort_size=2)
    cohort_id, members = market.seal_cohort(model_id)
    waiting = market.join(model_id)
    market.run_round(cohort_id, members, new_error=230_000_000)
    market.run_round(cohort_id, members, new_error=190_000_000)
    market.send(waiting, "leave", market.forming_cohort(model_id))
    market.send(members[0], "leave", cohort_id)
    market.send(market.lender, "closeModel", model_id)
    market.send(members[0], "withdraw")
    market.finalise()
    return model_id


async def test_step__a_model_from_creation_to_refund__projection_equals_the_contract(bench: Bench, market: Market) -> None:
    model_id = tell_a_story(market)
    await bench.catch_up()
    at = await bench.chain.final_block()
    on_chain = await bench.contracts.repository.model(ModelId(model_id), at)
    async with bench.database.begin() as session:
        view = await load_model(session, ModelId(model_id), cohort_id=CohortId(1), round_id=RoundId(2))
    assert view is not None
    assert (view.state, view.is_closed, view.best_error) == (ModelState.TRAINED, True, on_chain.best_error)
    assert (view.rounds_paid, view.weights_digest, view.lender) == (on_chain.rounds_paid, on_chain.weights_digest, on_chain.lender)
    assert view.bounty + view.base_fee * view.max_rounds == view.paid + view.refunded
    cohort = await bench.contracts.repository.cohort(CohortId(1), at)
    assert [(one.account, one.rows) for one in view.cohort(CohortId(1)).members] == [(one.account, one.rows) for one in cohort.members]
    current = await bench.contracts.repository.round(RoundId(2), at)
    assert view.round(RoundId(2)).state is current.state is RoundState.SETTLED
    assert [one.gradient_digest for one in view.round(RoundId(2)).submissions] == [one.gradient_digest for one in current.submissions]
    assert all(one.unlocked_at for one in view.round(RoundId(2)).submissions)


async def test_step__the_same_chain_in_one_go_and_in_any_windows__identical_tables(new_bench: NewBench, market: Market) -> None:
    tell_a_story(market)
    async with new_bench() as at_once, new_bench() as by_block, new_bench() as by_chance:
        await at_once.catch_up()
        await by_block.catch_up(by_block.watcher(range_limit=1))
        dice = np.random.default_rng(7)
        while await by_chance.watcher(range_limit=int(dice.integers(1, 10))).step():
            pass
        reference = await at_once.dump()
        assert len(reference["chain_events"]) > 30
        assert await by_block.dump() == reference
        assert await by_chance.dump() == reference
        for bench in (at_once, by_block, by_chance):
            await bench.assert_gapless()


async def test_step__nothing_new__leaves_no_row_and_quiet_blocks_extend_the_last_one(
    bench: Bench, market: Market, fresh_anvil: Anvil
) -> None:
    market.create_model()
    market.finalise()
    await bench.catch_up()
    assert await bench.watcher().step() is False
    ranges = await bench.count("chain_blocks")
    for _ in range(5):
        fresh_anvil.mine(2)
        await bench.catch_up()
    assert await bench.count("chain_blocks") == ranges
    await bench.assert_gapless()


async def test_step__event_in_a_block_that_is_not_final__waits(bench: Bench, market: Market, fresh_anvil: Anvil) -> None:
    model_id = market.create_model()
    await bench.catch_up()
    assert await bench.count("chain_events") == 0
    fresh_anvil.call("anvil_reorg", 1, [])  # it is gone, and nobody here ever knew
    market.finalise()
    await bench.catch_up()
    assert await bench.count("chain_events") == 0
    assert model_id == 1


@pytest.mark.parametrize("blocks_after", [0, 3])
async def test_step__final_block_replaced__stops_and_writes_nothing(
    bench: Bench, market: Market, fresh_anvil: Anvil, blocks_after: int
) -> None:
    market.create_model()
    fresh_anvil.mine(5)
    await bench.catch_up()
    before = await bench.dump()
    fresh_anvil.call("anvil_reorg", 4, [])
    if blocks_after:
        Market(fresh_anvil, bench.deployment).create_model()
        fresh_anvil.mine(blocks_after)
    with pytest.raises(ChainDiverged):
        await bench.watcher().step()
    assert await bench.dump() == before


async def test_run__final_block_replaced__ends_instead_of_going_on(bench: Bench, fresh_anvil: Anvil) -> None:
    fresh_anvil.mine(5)
    await bench.catch_up()
    fresh_anvil.call("anvil_reorg", 4, [])
    with pytest.raises(ChainDiverged):
        await asyncio.wait_for(bench.watcher().run(asyncio.Event()), 10)


async def test_step__log_that_the_abi_does_not_know__is_violated(bench: Bench, market: Market, fresh_anvil: Anvil) -> None:
    await bench.catch_up()
    emit_a_stranger = "0x7f" + "5e" * 32 + "60006000a100"  # PUSH32 topic, PUSH1 0, PUSH1 0, LOG1, STOP
    fresh_anvil.call("anvil_setCode", bench.deployment.address, emit_a_stranger)
    market.send(market.lender, "withdraw")
    market.finalise()
    with pytest.raises(Undecodable):
        await bench.watcher().step()
    assert await bench.count("chain_events") == 0


async def test_step__second_event_of_a_range_does_not_fit__nothing_of_the_range_is_kept(
    bench: Bench, market: Market, fresh_anvil: Anvil
) -> None:
    model_id = market.create_model()
    start = fresh_anvil.head() + 1  # too late: this model's creation is never read
    market.create_model()
    market.join(model_id)
    market.finalise()
    with pytest.raises(HistoryBroken):
        await bench.watcher(start=start).step()
    for table in (*PROJECTION, "procrastinate_jobs", "chain_blocks"):
        assert await bench.count(table) == 0


async def test_step__job_planned__its_queue_entry_is_committed_with_it(bench: Bench, market: Market) -> None:
    market.seal_cohort(market.create_model())
    market.finalise()
    await bench.catch_up()
    entries = await bench.rows(
        """select j.business_key, p.lock, p.priority from jobs j
           join procrastinate_jobs p on (p.args ->> 'job_id')::bigint = j.id order by j.id"""
    )
    assert len(entries) == await bench.count("jobs") == await bench.count("procrastinate_jobs")
    assert ("open_round:lender:cohort-1:number-1", "cohort-1:lender:open_round", 20) in entries


@pytest.mark.parametrize(("services", "kinds"), [({Service.LENDER}, {"open_round"}), ({Service.OWNER}, {"announce_model"})])
async def test_step__node_with_one_role__plans_only_for_it(bench: Bench, market: Market, services: set[Service], kinds: set[str]) -> None:
    cohort_id, _ = market.seal_cohort(market.create_model())
    market.finalise()
    await bench.catch_up(bench.watcher(services=frozenset(services)))
    market.open_round(cohort_id)  # without a trainer nobody can contribute
    market.finalise()
    await bench.catch_up(bench.watcher(services=frozenset(services)))
    assert {key.partition(":")[0] for key in await bench.job_keys()} == kinds


async def test_step__deadline_passes_in_silence__expiry_is_planned_once(bench: Bench, market: Market, fresh_anvil: Anvil) -> None:
    cohort_id, _ = market.seal_cohort(market.create_model(submit_window=20))
    market.open_round(cohort_id)
    market.finalise()
    await bench.catch_up()
    assert not [key for key in await bench.job_keys() if key.startswith("expire_round")]
    for _ in range(3):
        fresh_anvil.move_time(21)
        await bench.catch_up()
    expiries = [key for key in await bench.job_keys() if key.startswith("expire_round")]
    assert expiries == ["expire_round:lender:round-1:submitting", "expire_round:owner:round-1:submitting"]


async def test_step__last_third_of_a_submit_window__members_without_a_submission_are_asked_to_leave_once(
    bench: Bench, market: Market, fresh_anvil: Anvil
) -> None:
    cohort_id, members = market.seal_cohort(market.create_model(submit_window=600))
    market.open_round(cohort_id)
    market.finalise()
    await bench.catch_up()
    assert not [key for key in await bench.job_keys() if key.startswith("abandon")]
    for _ in range(3):
        fresh_anvil.move_time(150)
        await bench.catch_up()
    retreats = [key for key in await bench.job_keys() if key.startswith("abandon")]
    assert len(retreats) == len(members) == len(set(retreats))


async def test_step__three_watchers_on_one_database__each_event_once(bench: Bench, market: Market) -> None:
    tell_a_story(market)
    await asyncio.gather(*(bench.catch_up(bench.watcher(range_limit=limit)) for limit in (1, 2, 3)))
    await bench.catch_up()
    head = await bench.chain.final_block()
    assert await bench.count("chain_events") == len(await bench.contracts.repository.events(bench.deployment.block, head.number))
    await bench.assert_gapless()


async def test_step__database_of_another_contract__is_refused(bench: Bench, market: Market, fresh_anvil: Anvil) -> None:
    market.finalise()
    await bench.catch_up()
    bench.contracts = replace(bench.contracts, repository=ModelRepository(bench.chain, deploy_repository(fresh_anvil, 2).address))
    with pytest.raises(OtherContractFollowed):
        await bench.watcher().step()


async def test_step__absurd_terms__do_not_stop_the_coordinator(bench: Bench, market: Market) -> None:
    model_id = market.create_model(initial_error=2**64 - 1, target_error=2**64 - 2)
    market.finalise()
    await bench.catch_up()
    assert await bench.rows("select model_id, initial_error from models") == [(model_id, 2**64 - 1)]


async def test_step__node_that_is_behind__is_unavailable_not_diverged(bench: Bench, market: Market, fresh_anvil: Anvil) -> None:
    market.finalise()
    await bench.catch_up()
    async with bench.database.begin() as session:
        await session.execute(text("update chain_cursor set block_number = block_number + 5"))
    with pytest.raises(ChainUnavailable):
        await bench.watcher().step()


async def test_run__chain_does_not_answer_at_first__goes_on_by_itself(
    bench: Bench, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, failures = bench.chain.final_block, iter([ChainUnavailable()])

    async def final_block() -> Block:
        for failure in failures:
            raise failure
        return await answer()

    monkeypatch.setattr(bench.chain, "final_block", final_block)
    market.create_model()
    market.finalise()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
        tasks.create_task(bench.watcher().run(stop))
        while await bench.count("models") == 0:  # noqa: ASYNC110  # another task fills the table
            await asyncio.sleep(0.02)
        stop.set()
