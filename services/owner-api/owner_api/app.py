"""owner-api's app: its routes over a world that the caller opens and closes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from hessian.service.app import ReadyCheck, create_service
from owner_api.applications import endpoints as applications
from owner_api.catalogue import endpoints as catalogue
from owner_api.contributions import endpoints as contributions
from owner_api.datasets import endpoints as datasets
from owner_api.earnings import endpoints as earnings
from owner_api.enrollments import endpoints as enrollments
from owner_api.owners import endpoints as owners
from owner_api.transfers import endpoints as transfers
from owner_api.world import World

DESCRIPTION = """The node of data owners and borrowers: wallets, encrypted datasets, enrolments under the owner's own policy, contributions,
earnings; deployments and private applications.

Every route under `/v1` takes `Authorization: Bearer <token>`, by its path:

- An owner's own token, which `POST /v1/owners` answers with: datasets, enrolments, earnings, withdrawals, transfers, applications,
  `GET /v1/contributions` and `GET /v1/owners/me`. Others' objects do not exist for it.
- The node's admin token: the other routes of `/v1/owners`.
- Either of the two: models and deployments.
- The coordinator token, the node's coordinator's: `/v1/catalogue`, `/v1/rounds`, `/v1/cohorts`, `/v1/requests` and the other routes of
  `/v1/contributions`.
- The trainer token, the node's trainer's: `/v1/tickets`.

Wei are decimal strings, `_bps` are basis points (10⁻⁴), errors are in billionths (10⁻⁹). Times that are integers are seconds since 1970 by
the chain's clock."""


def create_app(world: World) -> FastAPI:
    """The app over a world."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield world.state()

    async def chain_answers() -> None:
        await world.chain.final_block()

    def ready(_: Request) -> Mapping[str, ReadyCheck]:
        return {"database": world.database.ping, "chain": chain_answers, "ipfs": world.store.check}

    return create_service(
        title="Hessian owner-api",
        description=DESCRIPTION,
        lifespan=lifespan,
        routers=[
            owners.router,
            datasets.router,
            catalogue.router,
            catalogue.coordination,
            enrollments.router,
            contributions.router,
            contributions.round_router,
            contributions.ticket_router,
            earnings.router,
            transfers.router,
            applications.deployment_router,
            applications.router,
            applications.request_router,
            applications.ticket_router,
        ],
        ready=ready,
    )
