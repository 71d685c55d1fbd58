"""Tracing with OpenTelemetry: the only file that imports it. Needs `hessian[tracing]`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_NANOSECONDS = 1_000_000_000
_PROPAGATOR = TraceContextTextMapPropagator()


class Telemetry:
    """hessian.tracing.Tracer on OpenTelemetry. Errors leave their class in a span, never their words: those may quote what is private."""

    def __init__(self, service: str, processor: SpanProcessor, market: str) -> None:
        self._market = market
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("hessian")

    @contextmanager
    def span(self, name: str, *, subject: str | None, attributes: Mapping[str, str]) -> Iterator[None]:
        """See Tracer."""
        parent = self._parent(subject)
        if parent is None:
            yield
            return
        with self._started(name, parent, SpanKind.INTERNAL, attributes):
            yield

    @contextmanager
    def continued(self, name: str, traceparent: str) -> Iterator[None]:
        """See Tracer. A header that is not well-formed begins nothing."""
        parent = _PROPAGATOR.extract({"traceparent": traceparent})
        if not trace.get_current_span(parent).get_span_context().is_valid:
            yield
            return
        with self._started(name, parent, SpanKind.SERVER, {}):
            yield

    def record(self, name: str, *, subject: str | None, seconds: float, attributes: Mapping[str, str]) -> None:
        """See Tracer."""
        parent = self._parent(subject)
        if parent is not None:
            now = time.time_ns()
            begun = self._tracer.start_span(name, parent, attributes=attributes, start_time=now - int(seconds * _NANOSECONDS))
            begun.end(now)

    def traceparent(self) -> str | None:
        """See Tracer."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    def _parent(self, subject: str | None) -> Context | None:
        """What goes on already wins; then the subject's own trace, where this service knows the market."""
        if trace.get_current_span().get_span_context().is_valid:
            return get_current()
        if subject is None or not self._market:
            return None
        return trace.set_span_in_context(NonRecordingSpan(root_of(self._market, subject)), Context())

    @contextmanager
    def _started(self, name: str, parent: Context, kind: SpanKind, attributes: Mapping[str, str]) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as begun:
            try:
                yield
            except BaseException as error:
                begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise


def root_of(market: str, subject: str) -> SpanContext:
    """The span that everything about a subject hangs from. Nobody sends it: it is agreed on, not begun."""
    digest = hashlib.sha256(f"hessian trace {market} {subject}".encode()).digest()
    return SpanContext(int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big"), is_remote=True, trace_flags=TraceFlags(1))


def exporting(service: str, url: str, market: str) -> Telemetry:
    """To a collector, in batches, in the background; what it does not take is dropped and logged by OpenTelemetry itself."""
    return Telemetry(service, BatchSpanProcessor(OTLPSpanExporter(url)), market)
