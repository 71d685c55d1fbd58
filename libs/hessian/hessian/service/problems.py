"""Errors as `application/problem+json` (RFC 9457), and the same classes as OpenAPI responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hessian.errors import HessianError, Malformed, Unauthenticated, Unavailable, Violated

log = structlog.get_logger()
RETRY_AFTER_SECONDS = "2"


class Problem(BaseModel):
    """What went wrong and what the caller can do (RFC 9457)."""

    type: str = Field(description="`about:blank#` + the error's class", examples=["about:blank#NotFound"])
    title: str = Field(examples=["NotFound"])
    status: int = Field(examples=[404])
    detail: str = Field(description="A sentence for the person who must act on it", examples=["There is no such thing here."])
    correlation_id: str | None = Field(default=None, description="Quote it when you ask an operator")
    errors: list[dict[str, Any]] | None = Field(default=None, description="Where the payload is wrong, field by field")


class FieldsRefused(Malformed):
    """Fields of the payload are wrong, one by one."""

    def __init__(self, sentence: str, places: Mapping[str, str]) -> None:
        """What to change, by field ("features.income"). Neither the sentence nor the places repeat a value: refusals are logged."""
        super().__init__(sentence)
        self.errors = [{"where": where, "what": what} for where, what in places.items()]


def refusals(*errors: type[HessianError]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of an endpoint that can refuse for these reasons."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        entry = responses.setdefault(error.status, {"model": Problem, "description": ""})
        sentence = (error.__doc__ or error.__name__).strip().splitlines()[0]
        entry["description"] = f"{entry['description']} **{error.__name__}**: {sentence}".strip()
    return responses


def problem_response(request: Request, error: HessianError) -> JSONResponse:
    """The answer for an error of ours."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    errors = error.errors if isinstance(error, FieldsRefused) else None
    return _answer(request, error.status, type(error).__name__, error.sentence, headers=headers, errors=errors)


def install_problem_handlers(app: FastAPI) -> None:
    """Every way out of this app that is not a success is a Problem."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HessianError)  # noqa: S101 - registered for this class only
        level = log.error if isinstance(error, Violated) else log.warning if isinstance(error, Unavailable) else log.info
        level("request_refused", reason=type(error).__name__, detail=error.sentence, path=request.url.path)
        return problem_response(request, error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
        # the offending input is not echoed: it may be a secret, or not representable in JSON
        places = [{"where": ".".join(str(part) for part in e["loc"]), "what": e["msg"]} for e in error.errors()]
        detail = "; ".join(f"{p['where']}: {p['what']}" for p in places[:5]) or "the payload is not what this route takes"
        if (
            error.body is not None
            and any(_is_no_object(e) for e in error.errors())
            and not _is_json(request.headers.get("content-type", ""))
        ):
            detail += "; send the body as application/json"
        return _answer(request, 422, "Malformed", detail, errors=places)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
        return _answer(request, error.status_code, "HttpError", str(error.detail), headers=dict(error.headers or {}))

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("request_failed", path=request.url.path, exc_info=error)
        # this handler stands outside the edge, which would have added the id
        headers = {"x-correlation-id": getattr(request.state, "correlation_id", "")}
        return _answer(request, 500, "Violated", "The service met an error of its own; the operator's log has it.", headers=headers)

    app.add_exception_handler(HessianError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


def _is_no_object(error: Mapping[str, Any]) -> bool:
    """A body whose type FastAPI does not know arrives as bytes, where an object should be."""
    return tuple(error["loc"]) == ("body",) and error["type"] in {"model_attributes_type", "model_type", "dict_type"}


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _answer(
    request: Request,
    status: int,
    title: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> JSONResponse:
    problem = Problem(
        type=f"about:blank#{title}",
        title=title,
        status=status,
        detail=detail,
        correlation_id=getattr(request.state, "correlation_id", None),
        errors=errors,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status_code=status, headers=headers, media_type="application/problem+json")
