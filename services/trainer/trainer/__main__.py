"""`python -m trainer`: the composition root."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hessian.logging import configure_logging
from hessian.service.client import ServiceClient
from hessian.service.metrics import serve_metrics
from hessian.service.process import run_service, serve
from hessian.service.tokens import NodeTokens
from hessian.settings import read_secret
from hessian.tracing import start_tracing
from trainer.app import World, create_app
from trainer.isolation.choice import choose
from trainer.pool import JobPool
from trainer.settings import TrainerSettings


async def main(stop: asyncio.Event) -> None:
    """Open the pool and the client, serve until told to stop, close them again."""
    settings = TrainerSettings()
    configure_logging("trainer", level=settings.log_level, as_json=settings.log_json)
    start_tracing("trainer", settings)
    trainer_token = read_secret(settings.trainer_token_file)
    tokens = NodeTokens(coordinator=read_secret(settings.coordinator_token_file), trainer=trainer_token)
    isolation = await choose(settings)
    async with AsyncExitStack() as stack:
        owner = ServiceClient("owner-api", str(settings.owner_url), trainer_token)
        stack.push_async_callback(owner.close)
        pool = await stack.enter_async_context(JobPool(isolation, processes=settings.job_processes, waiting=settings.job_waiting))
        async with asyncio.TaskGroup() as tasks:
            world = World(
                pool=pool,
                owner=owner,
                node_tokens=tokens,
                minimum_key_bits=settings.minimum_key_bits,
                job_threads=settings.job_threads,
            )
            tasks.create_task(serve(create_app(world), settings, stop), name="api")
            tasks.create_task(serve_metrics({}, settings, stop), name="metrics")


if __name__ == "__main__":
    run_service("trainer", main)
