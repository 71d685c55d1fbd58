"""The coordinator's figures, read from its tables and the chain when somebody asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import func, select, text

from coordinator import repository, tables
from coordinator.jobs import JobState
from coordinator.world import World
from hessian.identifiers import BlockNumber
from hessian.service.metrics import Reads, gauge, gauges

_OWED = text(
    """
    WITH created AS (SELECT model_id, plain -> 'terms' AS terms FROM chain_events WHERE kind = 'ModelCreated')
    SELECT coalesce((SELECT sum((terms ->> 'bounty')::numeric + (terms ->> 'base_fee')::numeric * (terms ->> 'max_rounds')::numeric)
                     FROM created), 0)
         + coalesce((SELECT sum((terms ->> 'member_bond')::numeric) FROM created JOIN chain_events AS joined USING (model_id)
                     WHERE joined.kind = 'MemberJoined'), 0)
         - coalesce((SELECT sum((plain ->> 'amount')::numeric) FROM chain_events
                     WHERE kind = 'Withdrawn' AND contract = 'ModelRepository'), 0)
    """
)
"""What the contract was paid and has not paid out, in wei: every ModelCreated, MemberJoined and Withdrawn up to the cursor."""

_OPEN = [JobState.PLANNED, JobState.DISPATCHED]


def reads(world: World) -> Reads:
    """What is asked at every scrape."""
    asked: dict[str, Callable[[World], Awaitable[list[GaugeMetricFamily]]]] = {"database": _tables, "chain": _chain, "escrow": _escrow}
    return {neighbour: partial(read, world) for neighbour, read in asked.items()}


async def _tables(world: World) -> list[GaugeMetricFamily]:
    """Jobs, models, rounds, money. Raises DatabaseUnavailable."""
    job, model, round_ = tables.Job, tables.Model, tables.Round
    async with world.database.begin() as session:
        jobs = (await session.execute(select(job.kind, job.state, func.count()).group_by(job.kind, job.state))).all()
        models = (await session.execute(select(model.state, func.count()).group_by(model.state))).all()
        rounds = (await session.execute(select(round_.state, func.count()).group_by(round_.state))).all()
        paid = (await session.execute(select(func.coalesce(func.sum(round_.pool), 0)))).scalar_one()
        attempts = (await session.execute(select(func.coalesce(func.max(job.attempts), 0)).where(job.state.in_(_OPEN)))).scalar_one()
        age = func.extract("epoch", func.now() - func.min(job.created_at))
        oldest = (await session.execute(select(func.coalesce(age, 0)).where(job.state.in_(_OPEN)))).scalar_one()
    return [
        gauges("jobs", "Jobs by kind and state.", ("kind", "state"), (((str(kind), str(state)), count) for kind, state, count in jobs)),
        gauge("job_attempts", "Attempts at the most stubborn job that is still open.", attempts),
        gauge("job_oldest_open_seconds", "Since the oldest job was planned that is still open; 0 without one.", float(oldest)),
        gauges("models", "Models on chain by state.", ("state",), (((state.name.lower(),), count) for state, count in models)),
        gauges("rounds", "Rounds by state.", ("state",), (((state.name.lower(),), count) for state, count in rounds)),
        gauge("paid_wei", "Paid to cohorts so far, all models.", float(paid or 0)),
    ]


async def _chain(world: World) -> list[GaugeMetricFamily]:
    """How far the chain is, and how far the cursor is behind it. Raises ChainUnavailable, DatabaseUnavailable."""
    head, final = await world.chain.head_block(), await world.chain.final_block()
    async with world.database.begin() as session:
        cursor = await repository.read_cursor(session)
    figures = [
        gauge("chain_head_block", "The newest block.", head.number),
        gauge("chain_finalized_block", "The newest final block.", final.number),
        gauge("chain_finalized_timestamp_seconds", "Its time, by the chain's clock.", final.timestamp),
    ]
    if cursor is not None:
        lag = max(0, final.timestamp - cursor.timestamp)
        figures += [
            gauge("chain_cursor_block", "The last block done.", cursor.block_number),
            gauge("chain_cursor_lag_seconds", "Behind the final block, by the chain's clock.", lag),
        ]
    return figures


async def _escrow(world: World) -> list[GaugeMetricFamily]:
    """The contract's balance at the cursor against the events up to it. Raises ChainUnavailable, DatabaseUnavailable.

    Never less than it owes; more when somebody forced ether on it.
    """
    async with world.database.begin() as session:
        cursor = await repository.read_cursor(session)
        owed = int((await session.execute(_OWED)).scalar_one())
    if cursor is None:
        return []
    balance = await world.chain.balance(world.contracts.repository.address, BlockNumber(cursor.block_number))
    return [gauge("escrow_drift_wei", "The contract's balance less what its events say it holds.", float(balance - owed))]
