"""What every request passes first: a correlation id, headers that keep browsers honest, JSON that says one thing only."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hessian import tracing
from hessian.errors import TooLarge
from hessian.service.problems import problem_response

CORRELATION_HEADER = b"x-correlation-id"
TRACE_HEADER = b"traceparent"
_NAME = re.compile(r"^.{24,}$|\d{2}|^\d+$|[^a-z0-9-]")
_CORRELATION = re.compile(rb"[A-Za-z0-9._:-]{1,80}")


class CorrelationId:
    """Takes the caller's X-Correlation-Id when it is well-formed, else draws one; binds it to every log line and returns it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(CORRELATION_HEADER, b"")
        identity = given.decode() if _CORRELATION.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["correlation_id"] = identity

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (CORRELATION_HEADER, identity.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        trace = headers.get(TRACE_HEADER, b"").decode("latin-1")
        with structlog.contextvars.bound_contextvars(correlation_id=identity), tracing.continued(_operation(scope), trace):
            await self._app(scope, receive, answer)


def _operation(scope: Scope) -> str:
    """The request without its numbers, addresses and other names: how a trace calls it."""
    words = ("{}" if _NAME.search(word) else word for word in scope["path"].split("/"))
    return f"{scope['method']} {'/'.join(words)}"


class TooLargeAsProblem:
    """Starlette answers a body over its limit in plain text, outside the app's handlers; here it becomes a Problem like any refusal."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replaced = False

        async def answer(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain_too_large(message):
                replaced = True
                refusal = TooLarge("the request's body is over the limit of this route")
                await problem_response(Request(scope), refusal)(scope, receive, send)
            elif not replaced:
                await send(message)

        await self._app(scope, receive, answer)


def _is_plain_too_large(start: Message) -> bool:
    """A 413 that is no Problem yet: those of the app itself say which limit it was."""
    is_problem = dict(start["headers"]).get(b"content-type") == b"application/problem+json"
    return bool(start["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE) and not is_problem


class _StrictJsonRequest(Request):
    """JSON as RFC 8259 means it to be used: no name twice in an object, no NaN or infinity, no depth beyond reason."""

    async def json(self) -> Any:
        """The body. Raises HTTPException 400."""
        if not hasattr(self, "_json"):
            try:
                self._json = json.loads((await self.body()).decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=_no_constant)
            except (UnicodeDecodeError, RecursionError) as error:
                raise HTTPException(HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8 of reasonable depth") from error
        return self._json


class StrictJsonRoute(APIRoute):
    """The route class of every router here: `APIRouter(route_class=StrictJsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, over a request that reads JSON strictly."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictJsonRequest(request.scope, request.receive))

        return strict


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "an object of the body has the same name twice")
    return found


def _no_constant(name: str) -> None:
    raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name} is not JSON")
