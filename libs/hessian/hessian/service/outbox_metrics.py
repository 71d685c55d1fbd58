"""An outbox as Prometheus families, for the services that have one. Apart from `hessian.service.metrics`: the trainer has none."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily

from hessian.outbox.metrics import read_figures
from hessian.outbox.tables import OutboxRow
from hessian.postgres.session import Session
from hessian.service.metrics import gauge, gauges


async def outbox_families(session: Session, table: type[OutboxRow]) -> list[GaugeMetricFamily]:
    """Transactions by state, nonces used, the oldest that is not settled."""
    figures = await read_figures(session, table)
    by_state = (((str(state),), count) for state, count in figures.by_state.items())
    return [
        gauges("tx_intents", "Transactions by state.", ("state",), by_state),
        gauge("tx_oldest_open_seconds", "Age of the oldest transaction that is not settled; 0 without one.", figures.oldest_seconds),
        gauge("signer_nonce", "The next nonce, summed over this service's wallets.", figures.next_nonce),
    ]
