"""What `hessian status` says: whether each service is ready, what it waits for, and how far the coordinator is."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from devstack.services import SERVICES

_SECONDS = 5.0


@dataclass(frozen=True)
class Readiness:
    """One service's own word; `complaints` are the sentences of the checks that fail."""

    service: str
    is_ready: bool
    complaints: tuple[str, ...] = field(default=())


def readiness(urls: Mapping[str, str], *, transport: httpx.BaseTransport | None = None) -> list[Readiness]:
    """Every service is asked at the same time, so that one that hangs costs its timeout once."""
    with (
        httpx.Client(timeout=_SECONDS, trust_env=False, transport=transport) as client,
        ThreadPoolExecutor(max_workers=len(SERVICES)) as pool,
    ):
        return list(pool.map(lambda service: _ask(client, service.name, urls[service.name]), SERVICES))


def progress(url: str, token: str, *, transport: httpx.BaseTransport | None = None) -> str:
    """One sentence from the coordinator's `GET /v1/status`: how far it is behind the final block, and what a person must look at."""
    with httpx.Client(timeout=_SECONDS, trust_env=False, transport=transport) as client:
        try:
            answer = client.get(f"{url}/v1/status", headers={"Authorization": f"Bearer {token}"})
            status: dict[str, Any] = answer.raise_for_status().json()
        except httpx.HTTPStatusError as error:
            return f"the coordinator does not tell its progress (HTTP {error.response.status_code})"
        except (httpx.HTTPError, ValueError):
            return "the coordinator does not tell its progress"
    lag = status["lag_blocks"]
    behind = "has not read a block yet" if lag is None else f"{lag} blocks ({status['lag_seconds']} s) behind the final block"
    aside = status["jobs"]["set_aside"]
    look = f"{aside} jobs set aside: GET {url}/v1/jobs?state=set_aside" if aside else "no job set aside"
    return f"{behind}; {look}"


def _ask(client: httpx.Client, service: str, url: str) -> Readiness:
    try:
        answer = client.get(f"{url}/readyz")
        checks: dict[str, str] = answer.json()["checks"]
    except (httpx.HTTPError, ValueError, LookupError):
        return Readiness(service, is_ready=False, complaints=("it does not answer",))
    return Readiness(service, answer.is_success, tuple(sentence for sentence in checks.values() if sentence != "ok"))
