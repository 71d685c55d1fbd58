"""How a service of this node calls another one: bearer token, correlation id, our error families on both ends of the wire."""

from __future__ import annotations

from typing import Any

import httpx
import structlog

from hessian.errors import Refused, ServiceUnavailable
from hessian.service.edge import CORRELATION_HEADER

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
        """Send one request. Raises ServiceUnavailable (no answer, 5xx, 429) or PeerRefused (4xx)."""
        correlation = structlog.contextvars.get_contextvars().get("correlation_id")
        headers = dict(options.pop("headers", {}))
        if correlation:
            headers[CORRELATION_HEADER.decode()] = str(correlation)
        try:
            response = await self._http.request(method, path, headers=headers, **options)
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"{self._service} does not answer ({type(error).__name__})") from error
        if response.is_success:
            return response
        title, detail = _problem_of(response)
        if response.status_code >= 500 or response.status_code == 429:
            raise ServiceUnavailable(f"{self._service} answered {response.status_code} {title}: {detail}")
        raise PeerRefused(self._service, response.status_code, title, detail)

    async def get(self, path: str, **options: Any) -> Any:
        """GET, decoded from JSON."""
        return (await self.request("GET", path, **options)).json()

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """POST JSON, decoded from JSON (None for 204)."""
        response = await self.request("POST", path, json=body, **options)
        return response.json() if response.content else None


def _problem_of(response: httpx.Response) -> tuple[str, str]:
    try:
        body = response.json()
        return str(body.get("title", "")), str(body.get("detail", ""))
    except (ValueError, AttributeError):
        return "", response.text[:200]
