"""The watcher on both contracts: one range, one order, one transaction; a database from before there was a serving contract goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from market import Market
from serving_market import ServingMarket
from sqlalchemy import text

from coordinator.jobs import Service
from coordinator.migration import migrate
from coordinator.projection import HistoryBroken
from coordinator.repository import OtherContractFollowed
from coordinator.serving_repository import load_request
from coordinator.watcher import Watcher
from devstack.anvil import Anvil
from devstack.contracts import Deployment, deploy_serving
from hessian.chain.client import connect
from hessian.chain.contracts import Contracts
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.identifiers import BlockNumber, DeploymentId, RequestId
from hessian.postgres.engine import Database, open_database

TABLES = {
    "chain_events": "block_number, log_index",
    "models": "model_id",
    "deployments": "deployment_id",
    "requests": "request_id",
    "jobs": "business_key",
}
NOT_COMPARED = {"id", "created_at", "updated_at"}


@dataclass
class Bench:
    """One database that follows both contracts."""

    database: Database
    contracts: Contracts
    start: BlockNumber

    def watcher(self, *, range_limit: int = 1000, services: frozenset[Service] = frozenset(Service)) -> Watcher:
        return Watcher(self.database, self.contracts, services, start=self.start, range_limit=range_limit, poll_seconds=0.02)

    async def catch_up(self, watcher: Watcher | None = None) -> None:
        watcher = watcher or self.watcher()
        while await watcher.step():
            pass

    async def rows(self, query: str) -> list[Any]:
        async with self.database.begin() as session:
            return [tuple(row) for row in await session.execute(text(query))]

    async def execute(self, *statements: str) -> None:
        async with self.database.begin() as session:
            for statement in statements:
                await session.execute(text(statement))

    async def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that another run over the same chain must reproduce."""
        found = {}
        async with self.database.begin() as session:
            for table, order in TABLES.items():
                rows = (await session.execute(text(f"select * from {table} order by {order}"))).mappings()
                found[table] = [{name: value for name, value in row.items() if name not in NOT_COMPARED} for row in rows]
        return found

    async def jobs(self) -> list[str]:
        keys = [key for (key,) in await self.rows("select business_key from jobs where request_id is not null order by id")]
        return [str(key) for key in keys]


NewBench = Callable[[], Any]


@pytest.fixture
def new_bench(new_database: Callable[..., str], fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment) -> NewBench:
    @asynccontextmanager
    async def make() -> AsyncIterator[Bench]:
        url = new_database()
        migrate(url)
        async with open_database(url) as database, connect(fresh_anvil.url) as chain:
            contracts = Contracts(ModelRepository(chain, fresh_repository.address), ModelDeployment(chain, fresh_serving.address))
            yield Bench(database, contracts, fresh_repository.block)

    return make


@pytest.fixture
def serving(fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment) -> ServingMarket:
    return ServingMarket(Market(fresh_anvil, fresh_repository), fresh_serving)


def tell_a_story(serving: ServingMarket) -> None:
    """Two deployments, one retired; a request that is answered and paid out, one that expires, one that waits; training in between."""
    first, second = serving.deploy(), serving.deploy()
    answered, _ = serving.request(first)
    serving.answer(answered)
    serving.market.create_model()
    expired, borrower = serving.request(second)
    serving.send(serving.market.lender, "retire", second)
    serving.market.anvil.move_time(61)
    serving.send(borrower, "expireRequest", expired)
    serving.send(borrower, "withdraw")
    serving.request(first)
    serving.market.finalise()


async def test_step__story_on_both_contracts__projection_equals_them_and_events_stand_in_the_chains_order(
    new_bench: NewBench, serving: ServingMarket
) -> None:
    tell_a_story(serving)
    async with new_bench() as bench:
        await bench.catch_up()
        final = await bench.contracts.deployment.chain.final_block()
        for number in (1, 2, 3):
            on_chain = await bench.contracts.deployment.request(RequestId(number), final)
            async with bench.database.begin() as session:
                view = await load_request(session, RequestId(number))
            assert view is not None
            assert view.request is not None
            assert (view.request.state, view.request.deadline) == (on_chain.state, on_chain.deadline)
            assert (view.request.requester, view.request.query_digest) == (on_chain.requester, on_chain.query_digest)
            assert (view.request.answer_digest or bytes(32)) == on_chain.answer_digest
            deployment = await bench.contracts.deployment.deployment(DeploymentId(view.request.deployment_id), final)
            assert (view.deployment.is_retired, view.deployment.fee) == (deployment.is_retired, deployment.fee)
        places = await bench.rows("select block_number, log_index from chain_events order by id")
        assert places == sorted(places)
        kinds = await bench.rows("select kind, model_id, deployment_id from chain_events where contract = 'ModelDeployment' order by id")
        assert {(kind, model, deployment) for kind, model, deployment in kinds if kind == "Credited"} == {
            ("Credited", serving.model_id, 1), ("Credited", serving.model_id, 2),
        }  # fmt: skip
        assert len(kinds) == 2 + 2 + 2 + 1 + 2 + 1 + 1
        assert await bench.jobs() == [
            "answer_score:lender:request-1", "read_answer:owner:request-1", "answer_score:lender:request-2",
            "read_answer:owner:request-2", "answer_score:lender:request-3",
        ]  # fmt: skip


async def test_step__in_one_go_or_block_by_block__identical_tables_but_for_the_refunds_asked_on_the_way(
    new_bench: NewBench, serving: ServingMarket
) -> None:
    tell_a_story(serving)
    async with new_bench() as at_once, new_bench() as by_block:
        await at_once.catch_up()
        await by_block.catch_up(by_block.watcher(range_limit=1))
        one, other = await at_once.dump(), await by_block.dump()
        refund = [job for job in other["jobs"] if job["kind"] == "expire_request"]
        assert [job["business_key"] for job in refund] == ["expire_request:owner:request-2"]
        other["jobs"].remove(refund[0])
        assert one == other


async def test_step__deadline_passes_in_silence__the_refund_is_planned_once_and_only_for_an_owners_node(
    new_bench: NewBench, serving: ServingMarket, fresh_anvil: Anvil
) -> None:
    serving.request(serving.deploy())
    serving.market.finalise()
    async with new_bench() as owner, new_bench() as lender:
        for bench, services in ((owner, {Service.OWNER, Service.TRAINER}), (lender, {Service.LENDER})):
            await bench.catch_up(bench.watcher(services=frozenset(services)))
        for _ in range(3):
            fresh_anvil.move_time(61)
            await owner.catch_up(owner.watcher(services=frozenset({Service.OWNER})))
            await lender.catch_up(lender.watcher(services=frozenset({Service.LENDER})))
        assert await owner.jobs() == ["expire_request:owner:request-1"]
        assert await lender.jobs() == ["answer_score:lender:request-1"]


async def test_step__cursor_of_a_database_from_before__takes_in_what_was_served_and_goes_on(
    new_bench: NewBench, serving: ServingMarket
) -> None:
    tell_a_story(serving)
    async with new_bench() as fresh, new_bench() as old:
        await fresh.catch_up()
        await old.catch_up()
        await old.execute(  # as the migration leaves a database that never heard of the second contract
            "delete from jobs where request_id is not null",
            "delete from requests",
            "delete from deployments",
            "delete from chain_events where contract = 'ModelDeployment'",
            "update chain_cursor set deployment_address = null",
        )
        cursor = await old.rows("select block_number, block_hash from chain_cursor")
        assert await old.watcher().step() is False
        assert await old.rows("select block_number, block_hash from chain_cursor") == cursor
        assert await old.dump() == await fresh.dump()
        serving.request(1)
        serving.market.finalise()
        await old.catch_up()
        await fresh.catch_up()
        assert await old.dump() == await fresh.dump()


async def test_step__another_serving_contract_than_before__is_refused(
    new_bench: NewBench, serving: ServingMarket, fresh_anvil: Anvil, fresh_repository: Deployment
) -> None:
    serving.market.finalise()
    async with new_bench() as bench:
        await bench.catch_up()
        other = deploy_serving(fresh_anvil, fresh_repository)
        bench.contracts = Contracts(bench.contracts.repository, ModelDeployment(bench.contracts.repository.chain, other.address))
        with pytest.raises(OtherContractFollowed):
            await bench.watcher().step()


async def test_step__serving_event_that_does_not_fit__writes_nothing_of_its_range(new_bench: NewBench, serving: ServingMarket) -> None:
    deployment_id = serving.deploy()
    serving.market.finalise()
    async with new_bench() as bench:
        await bench.catch_up()
        await bench.execute(  # somebody wrote into the database: it knows the request before the chain made it
            f"""insert into requests (request_id, deployment_id, requester, state, deadline, query_digest, requested_at)
                values (1, {deployment_id}, '0x', 'waiting', 1, decode(repeat('ab', 32), 'hex'), 1)"""
        )
        before, cursor = await bench.dump(), await bench.rows("select block_number from chain_cursor")
        serving.market.create_model()  # in the same range, earlier, and fine by itself
        serving.request(deployment_id)
        serving.market.finalise()
        with pytest.raises(HistoryBroken):
            await bench.catch_up()
        assert await bench.dump() == before
        assert await bench.rows("select block_number from chain_cursor") == cursor
