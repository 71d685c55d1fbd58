"""One trace per round: the same on every node, through every service, with nothing private in it, and nothing at all unless asked for."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hessian import tracing
from hessian.service.app import create_service
from hessian.service.client import ServiceClient
from hessian.service.edge import StrictJsonRoute
from hessian.settings import ServiceSettings
from hessian.tracing.telemetry import Telemetry, root_of

MARKET = "31337:0x1111111111111111111111111111111111111111"


class Collector:
    """Where the spans of several services arrive."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()

    def tracer(self, service: str, market: str = MARKET) -> Telemetry:
        return Telemetry(service, SimpleSpanProcessor(self._exporter), market)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    yield Collector()
    tracing.use_tracer(None)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def app_with(path: str, answer: Any) -> FastAPI:
    router = APIRouter(route_class=StrictJsonRoute)
    router.add_api_route(path, answer, methods=["POST"], tags=["test"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {}

    return create_service(title="test", description="", lifespan=lifespan, routers=[router], ready=lambda _: {})


def test_span__of_one_round_on_two_nodes__is_in_one_trace(collector: Collector) -> None:
    for service in ("a lender's coordinator", "an owner's coordinator"):
        tracing.use_tracer(collector.tracer(service))
        with tracing.span(f"job of {service}", subject="round-7"):
            pass
    first, second = collector.spans
    assert trace_of(first) == trace_of(second) == root_of(MARKET, "round-7").trace_id
    assert {span.parent.span_id for span in (first, second) if span.parent} == {root_of(MARKET, "round-7").span_id}


@pytest.mark.parametrize(
    "other", [(MARKET, "round-8"), (MARKET.replace("31337", "1"), "round-7"), (MARKET.replace("0x1", "0x2"), "round-7")]
)
def test_root__of_another_round_chain_or_contract__is_another(other: tuple[str, str]) -> None:
    assert root_of(*other).trace_id != root_of(MARKET, "round-7").trace_id


async def test_request__to_a_neighbour_that_knows_no_chain__goes_on_in_the_callers_trace(collector: Collector) -> None:
    async def step() -> dict[str, str]:
        with tracing.span("gradient step"):
            return {}

    tracing.use_tracer(collector.tracer("trainer", market=""))
    client = ServiceClient("trainer", "http://trainer", "token", transport=httpx.ASGITransport(app_with("/rounds/{number}", step)))
    coordinator = collector.tracer("coordinator")
    with coordinator.span("job contribute", subject="round-7", attributes={}):
        await client.post("/v1/rounds/7")
    await client.close()
    job, server, inner = (collector.named(name) for name in ("job contribute", "POST /v1/rounds/{}", "gradient step"))
    assert trace_of(job) == trace_of(server) == trace_of(inner) == root_of(MARKET, "round-7").trace_id
    assert job.context is not None
    assert server.context is not None
    assert server.parent is not None
    assert inner.parent is not None
    assert (server.parent.span_id, inner.parent.span_id) == (job.context.span_id, server.context.span_id)


async def test_request__without_a_trace_or_with_nonsense__is_not_traced(collector: Collector) -> None:
    async def answer() -> dict[str, str]:
        with tracing.span("work"):
            return {}

    tracing.use_tracer(collector.tracer("lender-api"))
    app = app_with("/work", answer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lender") as http:
        for nonsense in (b"", b"00-zz-1-01", b"\xfc", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"):
            assert (await http.post("/v1/work", headers={b"traceparent": nonsense})).status_code == 200
    assert collector.spans == []


def test_span__left_by_an_error__says_its_class_and_none_of_its_words(collector: Collector) -> None:
    tracing.use_tracer(collector.tracer("owner-api"))
    with pytest.raises(ValueError, match="row"), tracing.span("job", subject="round-7", kind="contribute"):
        raise ValueError("row 1,2,3")
    (span,) = collector.spans
    assert span.status.description == "ValueError"
    assert span.events == ()
    assert "1,2,3" not in span.to_json()
    assert span.attributes is not None
    assert span.attributes["kind"] == "contribute"


def test_record__of_what_has_ended__has_the_time_it_took(collector: Collector) -> None:
    tracing.use_tracer(collector.tracer("owner-api"))
    tracing.record("transaction submit", subject="round-7", seconds=2.5, state="final")
    tracing.record("transaction withdraw", subject=None, seconds=2.5)
    (span,) = collector.spans
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 2_500_000_000
    assert trace_of(span) == root_of(MARKET, "round-7").trace_id


def test_start_tracing__no_url__stays_off_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hessian.tracing.telemetry", None)
    tracing.start_tracing("coordinator", ServiceSettings(port=1), MARKET)
    with tracing.span("job", subject="round-7"):
        assert tracing.traceparent() is None


def test_start_tracing__a_url_but_no_packages__is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hessian.tracing.telemetry", None)
    settings = ServiceSettings.model_validate({"port": 1, "traces_url": "http://127.0.0.1:4318/v1/traces"})
    with pytest.raises(tracing.TracingNotInstalled, match="hessian\\[tracing\\]"):
        tracing.start_tracing("coordinator", settings, MARKET)
