"""lender-api's figures, read from its tables and the chain when somebody asks."""

from __future__ import annotations

from functools import partial

from prometheus_client.core import GaugeMetricFamily

from hessian.service.metrics import Reads, gauge
from hessian.service.outbox_metrics import outbox_families
from lender_api.tables import Outbox
from lender_api.world import World


def reads(world: World) -> Reads:
    """What is asked at every scrape."""
    return {"database": partial(_tables, world), "chain": partial(_wallet, world)}


async def _tables(world: World) -> list[GaugeMetricFamily]:
    """Raises DatabaseUnavailable."""
    async with world.database.begin() as session:
        return await outbox_families(session, Outbox)


async def _wallet(world: World) -> list[GaugeMetricFamily]:
    """Raises ChainUnavailable."""
    balance = await world.chain.balance(world.keys.address, await world.chain.head_block())
    return [gauge("signer_balance_wei", "In this service's emptiest wallet, at the head block.", float(balance))]
