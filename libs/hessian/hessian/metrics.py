"""What a process counts about itself, under the names that dashboards and alerts use. No label ever names a tenant, a digest or a value.

What the database or the chain knows anyway is not counted twice: services read it when they are asked (`hessian.service.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_SHORT = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_BLOCKS = (1, 2, 3, 5, 8, 16, 32, 64)


def _counter(name: str, sentence: str, *labels: str) -> Counter:
    return Counter(f"hessian_{name}", sentence, labels, registry=REGISTRY)


def _histogram(name: str, sentence: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"hessian_{name}", sentence, labels, buckets=buckets, registry=REGISTRY)


# no label says which node was asked: a service has one, and its address may hold a key
RPC_SECONDS = _histogram("rpc_request_duration_seconds", "A call to the Ethereum node, retries included.", _SHORT, "method", "outcome")
RPC_BAD = _counter("rpc_bad_response", "Answers of the Ethereum node that cannot be true, or name no block it knows.", "kind")
IPFS_BAD = _counter("ipfs_verify_failed", "Content that the IPFS node sent, or stored, under a name that is not its own.")
REORGS = _counter("chain_reorg", "Transactions of this node that were in a block, and then in none.")
REORG_DEPTH = _histogram("chain_reorg_depth", "Blocks from such a block to the newest: a reorganisation was at least so deep.", _BLOCKS)
TX_BROADCAST_SECONDS = _histogram("tx_time_until_broadcast_seconds", "From the wish until a node has the bytes.", _LONG, "purpose")
TX_FINAL_SECONDS = _histogram("tx_time_until_final_seconds", "From the wish to the final block.", _LONG, "purpose")
TX_PUBLISH_ERRORS = _counter("tx_publish_error", "Broadcasts that the Ethereum node did not take.", "class")
TX_FAILED = _counter("tx_failed", "Transactions that would have reverted, or did.", "purpose")
JOB_SECONDS = _histogram("job_duration_seconds", "One attempt at a job.", _LONG, "kind", "outcome")
JOB_LEASES_LOST = _counter("job_lease_lost", "Jobs taken back from a worker that fell silent.")
ARTIFACTS_REJECTED = _counter("artifact_rejected", "Members' artifacts that did not pass the checks.", "reason")
TRAINER_SECONDS = _histogram("trainer_job_seconds", "One job in a process of its own.", _LONG, "kind", "outcome")
TRAINER_ADMITTED = Gauge("hessian_trainer_jobs_admitted", "Jobs that run or wait for a place.", registry=REGISTRY)


@contextmanager
def timed(histogram: Histogram, **labels: str) -> Iterator[None]:
    """Observe how long the block takes; `outcome` is "ok", or the class of the error that left it."""
    begun, outcome = monotonic(), "ok"
    try:
        yield
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        histogram.labels(**labels, outcome=outcome).observe(monotonic() - begun)
