"""Builds a service's FastAPI app: one place for the things every API of ours has."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from hessian import __version__
from hessian.errors import HessianError
from hessian.service.edge import CorrelationId, StrictJsonRoute, TooLargeAsProblem
from hessian.service.problems import Problem, install_problem_handlers

BODY_LIMIT = 1 << 20
RECURSION_LIMIT = 1000
ReadyCheck = Callable[[], Awaitable[None]]


class Health(BaseModel):
    """Whether this process turns, and what it waits for."""

    status: str = Field(examples=["ready"])
    checks: dict[str, str] = Field(default_factory=dict, examples=[{"database": "ok", "chain": "ok"}])


class _Service(FastAPI):
    """FastAPI's document, put right in two places.

    It documents every model as `application/json`, though refusals leave as `application/problem+json`; and it drops the nulls of examples,
    which then lack required fields.
    """

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            operations = [operation for methods in document["paths"].values() for operation in methods.values()]
            for answer in (answer for operation in operations for answer in operation["responses"].values()):
                content = answer.get("content", {})
                if content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/Problem"):
                    content["application/problem+json"] = content.pop("application/json")
            for schema in document["components"]["schemas"].values():
                for example in (example for example in schema.get("examples", []) if isinstance(example, dict)):
                    example.update((name, None) for name in schema.get("required", []) if name not in example)
        return self.openapi_schema or super().openapi()


def create_service(
    *,
    title: str,
    description: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]],
    routers: list[APIRouter],
    ready: Callable[[Request], Mapping[str, ReadyCheck]],
    body_limit: int = BODY_LIMIT,
) -> FastAPI:
    """An app with `/v1` routes, `/healthz`, `/readyz` and the house's errors.

    `ready` names what must answer before this service takes work; each check raises a HessianError when it does not.
    A route that takes more than `body_limit` bytes says so itself (`max_body_size=`).
    """
    # py_ecc, which comes with eth-account, raises the limit to 100 000 when it is imported: JSON nested so deep would overflow the C stack
    # and end the process, whoever sent it. This is Python's own limit; beyond it the edge answers 400.
    sys.setrecursionlimit(RECURSION_LIMIT)
    app = _Service(
        title=title,
        description=description,
        version=__version__,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        responses={
            "4XX": {"model": Problem, "description": "Refused: the caller must change something."},
            "5XX": {"model": Problem, "description": "Unavailable (retry) or an error of the service itself."},
        },
    )
    app.router.route_class = StrictJsonRoute
    app.add_middleware(TooLargeAsProblem)
    app.add_middleware(CorrelationId)
    install_problem_handlers(app)
    for router in routers:
        _require_strict(router)
        app.include_router(router, prefix="/v1", max_body_size=body_limit)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """The event loop turns."""
        return Health(status="alive")

    @app.get("/readyz", tags=["health"], responses={503: {"model": Health, "description": "Not yet, or not any more."}})
    async def readyz(request: Request, response: Response) -> Health:
        """Everything this service depends on answers."""
        checks: dict[str, str] = {}
        for name, check in ready(request).items():
            try:
                await check()
                checks[name] = "ok"
            except HessianError as error:
                checks[name] = error.sentence
        is_ready = all(answer == "ok" for answer in checks.values())
        if not is_ready:
            response.status_code = 503
        return Health(status="ready" if is_ready else "waiting", checks=checks)

    return app


def _require_strict(router: APIRouter) -> None:
    for route in router.routes:
        if isinstance(route, APIRoute) and not isinstance(route, StrictJsonRoute):
            raise TypeError(f"{route.path}: build the router with route_class=StrictJsonRoute")


def _operation_id(route: APIRoute) -> str:
    """`models_create`: stable names for generated clients."""
    noun = str(route.tags[0]).replace("-", "_") if route.tags else "service"
    return f"{noun}_{route.name}"
