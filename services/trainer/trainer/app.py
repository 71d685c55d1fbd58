"""The trainer's app. Its world is a pool of processes, a client for owner-api, two tokens, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from hessian.service.app import ReadyCheck, create_service
from hessian.service.client import ServiceClient
from hessian.service.tokens import NodeTokens
from trainer.endpoints import router
from trainer.pool import JobPool

BODY_LIMIT = 4 << 20
"""A manifest and weights of 1 MiB each, in base64."""


@dataclass(frozen=True)
class World:
    """What the composition root made."""

    pool: JobPool
    owner: ServiceClient
    node_tokens: NodeTokens
    minimum_key_bits: int
    job_threads: int = 1


def create_app(world: World) -> FastAPI:
    """The app over a world that its caller opens and closes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {
            "pool": world.pool,
            "owner": world.owner,
            "node_tokens": world.node_tokens,
            "minimum_key_bits": world.minimum_key_bits,
            "job_threads": world.job_threads,
        }

    def ready(_: Request) -> Mapping[str, ReadyCheck]:
        return {"pool": world.pool.check}

    return create_service(
        title="Hessian trainer",
        description="Computes statistics, homomorphic gradient steps and score queries. Stateless; opens nothing without a ticket.",
        lifespan=lifespan,
        routers=[router],
        ready=ready,
        body_limit=BODY_LIMIT,
    )
