"""One trace per round, for who wants one. Off, and free of any tracing package, until `start_tracing` is given somewhere to send it.

A trace's id is made from chain, contract and round (`hessian.tracing.telemetry`), so that the services of all nodes write into the same
one without having spoken to each other. Inside a node the W3C header `traceparent` carries it on, for the trainer knows no chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from hessian.settings import BadSettings, ServiceSettings


class TracingNotInstalled(BadSettings):
    """HESSIAN_TRACES_URL is set, and the packages that tracing needs are not installed: pip install 'hessian[tracing]'."""


class Tracer(Protocol):
    """What the rest of the house needs of tracing."""

    def span(self, name: str, *, subject: str | None, attributes: Mapping[str, str]) -> AbstractContextManager[None]:
        """What is done in here, below what goes on already; else below the trace of `subject`; else not traced."""

    def continued(self, name: str, traceparent: str) -> AbstractContextManager[None]:
        """What is done in here for a caller that sent its `traceparent`."""

    def record(self, name: str, *, subject: str | None, seconds: float, attributes: Mapping[str, str]) -> None:
        """Something that has ended just now and took so long."""

    def traceparent(self) -> str | None:
        """For whoever is called from here."""


class _Off:
    def span(self, name: str, *, subject: str | None, attributes: Mapping[str, str]) -> AbstractContextManager[None]:
        return nullcontext()

    def continued(self, name: str, traceparent: str) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, name: str, *, subject: str | None, seconds: float, attributes: Mapping[str, str]) -> None:
        return

    def traceparent(self) -> str | None:
        return None


_tracer: Tracer = _Off()


def use_tracer(tracer: Tracer | None) -> None:
    """Trace with this one from now on; None switches tracing off."""
    global _tracer  # one per process, like its log
    _tracer = tracer or _Off()


def start_tracing(service: str, settings: ServiceSettings, market: str = "") -> None:
    """Trace if the settings say where to. `market` is what all nodes of one market have in common. Raises TracingNotInstalled."""
    if settings.traces_url is None:
        return
    try:
        from hessian.tracing.telemetry import exporting
    except ImportError as error:
        raise TracingNotInstalled from error
    use_tracer(exporting(service, str(settings.traces_url), market))


def span(name: str, *, subject: str | None = None, **attributes: str) -> AbstractContextManager[None]:
    """See Tracer."""
    return _tracer.span(name, subject=subject, attributes=attributes)


def continued(name: str, traceparent: str) -> AbstractContextManager[None]:
    """See Tracer."""
    return _tracer.continued(name, traceparent)


def record(name: str, *, subject: str | None, seconds: float, **attributes: str) -> None:
    """See Tracer."""
    _tracer.record(name, subject=subject, seconds=seconds, attributes=attributes)


def traceparent() -> str | None:
    """See Tracer."""
    return _tracer.traceparent()
