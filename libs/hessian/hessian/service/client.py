"""How a service of this node calls another one: bearer token, correlation id, our error families on both ends of the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import structlog

from hessian import tracing
from hessian.errors import Refused, ServiceFailed, ServiceUnavailable
from hessian.service.edge import CORRELATION_HEADER, TRACE_HEADER

TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class PeerRefused(Refused):
    """A service of this node refused the request."""

    def __init__(self, service: str, status: int, title: str, detail: str) -> None:
        """What the peer answered."""
        super().__init__(f"{service} answered {status} {title}: {detail}")
        self.peer_status = status
        self.title = title
        self.detail = detail


class ServiceClient:
    """A thin JSON client for one neighbour. `transport` is the test seam (httpx.ASGITransport)."""

    def __init__(
        self,
        service: str,
        base_url: str,
        token: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> None:
        """`service` is the name used in errors and log lines."""
        self._service = service
        self._http = httpx.AsyncClient(
            base_url=base_url, headers={"Authorization": f"Bearer {token}"}, transport=transport, timeout=timeout, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request. Raises ServiceUnavailable (no answer, 5xx, 429; for a 500 ServiceFailed) or PeerRefused (4xx)."""
        try:
            response = await self._http.request(method, path, headers=_headers(options), **options)
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"{self._service} does not answer ({type(error).__name__})") from error
        self._require_success(response)
        return response

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of the answer, chunk by chunk. Raises as `request` does; ServiceUnavailable also when the answer ends early."""
        try:
            async with self._http.stream(method, path, headers=_headers(options), **options) as response:
                if not response.is_success:
                    await response.aread()
                self._require_success(response)
                yield response.aiter_bytes()
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"{self._service} does not answer ({type(error).__name__})") from error

    def _require_success(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        title, detail = _problem_of(response)
        if response.status_code >= 500 or response.status_code == 429:
            error = ServiceFailed if response.status_code == 500 else ServiceUnavailable
            raise error(f"{self._service} answered {response.status_code} {title}: {detail}", title)
        raise PeerRefused(self._service, response.status_code, title, detail)

    async def get(self, path: str, **options: Any) -> Any:
        """GET, decoded from JSON."""
        return (await self.request("GET", path, **options)).json()

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """POST JSON, decoded from JSON (None for 204)."""
        response = await self.request("POST", path, json=body, **options)
        return response.json() if response.content else None


def _headers(options: dict[str, Any]) -> dict[str, str]:
    """The request's own headers, taken out of `options`, the correlation id of the request that is being served, and its trace."""
    headers = dict(options.pop("headers", {}))
    correlation = structlog.contextvars.get_contextvars().get("correlation_id")
    if correlation:
        headers[CORRELATION_HEADER.decode()] = str(correlation)
    if trace := tracing.traceparent():
        headers[TRACE_HEADER.decode()] = trace
    return headers


def _problem_of(response: httpx.Response) -> tuple[str, str]:
    try:
        body = response.json()
        return str(body.get("title", "")), str(body.get("detail", ""))
    except (ValueError, AttributeError):
        return "", response.text[:200]
