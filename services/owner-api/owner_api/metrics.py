"""owner-api's figures, read from its tables and the chain when somebody asks. Owners are counted, never named."""

from __future__ import annotations

import asyncio
from functools import partial

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import func, select

from hessian.service.metrics import Reads, gauge, gauges
from hessian.service.outbox_metrics import outbox_families
from owner_api.tables import Contribution, Enrollment, OutgoingTransaction, Owner
from owner_api.world import World

_AT_A_TIME = 50
"""Balances that one scrape asks the Ethereum node for."""


def reads(world: World) -> Reads:
    """What is asked at every scrape."""
    return {"database": partial(_tables, world), "chain": partial(_wallets, world)}


async def _tables(world: World) -> list[GaugeMetricFamily]:
    """Raises DatabaseUnavailable."""
    async with world.database.begin() as session:
        figures = await outbox_families(session, OutgoingTransaction)
        enrollments = (await session.execute(select(Enrollment.state, func.count()).group_by(Enrollment.state))).all()
        contributions = (await session.execute(select(Contribution.state, func.count()).group_by(Contribution.state))).all()
        earned = (await session.execute(select(func.coalesce(func.sum(Contribution.earned), 0)))).scalar_one()
    return [
        *figures,
        gauges("enrollments", "Enrolments by state.", ("state",), (((str(state),), count) for state, count in enrollments)),
        gauges("contributions", "Contributions by state.", ("state",), (((str(state),), count) for state, count in contributions)),
        gauge("earned_wei", "Earned by this node's owners so far.", float(earned)),
    ]


async def _wallets(world: World) -> list[GaugeMetricFamily]:
    """The newest wallets: those are the ones that work. Raises ChainUnavailable, DatabaseUnavailable."""
    recent = select(Owner.address).order_by(Owner.number.desc()).limit(_AT_A_TIME)
    async with world.database.begin() as session:
        addresses = list((await session.execute(recent)).scalars())
    if not addresses:
        return []
    head = await world.chain.head_block()
    balances = await asyncio.gather(*(world.chain.balance(address, head) for address in addresses))
    return [gauge("signer_balance_wei", "In this service's emptiest wallet, at the head block.", float(min(balances)))]
