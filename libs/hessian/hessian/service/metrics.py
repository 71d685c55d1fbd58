"""`/metrics` in Prometheus' text format, on a port of its own: never on the one that the API is published under."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import structlog
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hessian.errors import Unavailable
from hessian.metrics import REGISTRY
from hessian.service.process import serve
from hessian.settings import ServiceSettings

log = structlog.get_logger()
READ_SECONDS = 4.0
"""Below the time that Prometheus itself gives a scrape: a silent neighbour costs its own figures, not all of them."""

Read = Callable[[], Awaitable[list[GaugeMetricFamily]]]
Reads = Mapping[str, Read]
"""By the neighbour that each one asks."""


def gauge(name: str, sentence: str, value: float) -> GaugeMetricFamily:
    """One figure."""
    return GaugeMetricFamily(f"hessian_{name}", sentence, value=value)


def gauges(name: str, sentence: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    """One figure for every combination of labels."""
    family = GaugeMetricFamily(f"hessian_{name}", sentence, labels=labels)
    for combination, value in values:
        family.add_metric(combination, value)
    return family


class _Once(Collector):
    """What was read for this one scrape."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry."""
        yield from self._families


async def serve_metrics(reads: Reads, settings: ServiceSettings, stop: asyncio.Event) -> None:
    """Serve until `stop`, where the settings name a port; every one of `reads` is asked at every scrape. Raises CannotListen."""
    if settings.metrics_port is None:
        return
    address = {"host": settings.metrics_host or settings.host, "port": settings.metrics_port}
    variables = ("HESSIAN_METRICS_HOST" if settings.metrics_host else "HESSIAN_HOST", "HESSIAN_METRICS_PORT")
    await serve(metrics_app(reads), settings.model_copy(update=address), stop, variables=variables)


def metrics_app(reads: Reads) -> FastAPI:
    """The app with its one route."""
    app = FastAPI(title="metrics", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    async def scrape() -> Response:
        """A neighbour that does not answer leaves its figures out and says so: a gap in a graph is not a zero."""
        answers = await asyncio.gather(*(_answer(neighbour, read) for neighbour, read in reads.items()))
        families = [family for answer in answers if answer is not None for family in answer]
        missing = (((neighbour,), answer is None) for neighbour, answer in zip(reads, answers, strict=True))
        registry = CollectorRegistry()
        registry.register(
            _Once([*families, gauges("scrape_incomplete", "1 when a neighbour's figures are missing.", ("neighbour",), missing)])
        )
        return Response(generate_latest(REGISTRY) + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _answer(neighbour: str, read: Read) -> list[GaugeMetricFamily] | None:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await read()
    except (Unavailable, TimeoutError) as error:
        reason = error.sentence if isinstance(error, Unavailable) else f"nothing within {READ_SECONDS:g} s"
        log.warning("metrics_incomplete", neighbour=neighbour, reason=reason)
        return None
