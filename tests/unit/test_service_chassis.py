"""What every API of ours does with a request before its own code sees it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Receive, Scope, Send

from hessian.errors import Conflict, Refused, ServiceUnavailable, Unavailable, Violated
from hessian.identifiers import Wei
from hessian.service.app import create_service
from hessian.service.client import PeerRefused, ServiceClient
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import DigestField, NameField, Page, WeiIn, WeiRead, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.tokens import NodeTokens, requires

router = APIRouter(prefix="/offers", tags=["offers"], route_class=StrictJsonRoute)


class CohortAlreadySealed(Conflict):
    """The cohort is sealed."""


class Offer(BaseModel):
    name: NameField
    price: WeiIn
    digest: DigestField | None = None


class OfferRead(BaseModel):
    price: WeiRead


class SaleRead(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"price": "5", "buyer": None}]})

    price: WeiRead
    buyer: str | None


@router.get("/{name}/sale")
async def sale(name: str) -> SaleRead:
    return SaleRead(price=Wei(len(name)), buyer=None)


@router.post("", responses=refusals(CohortAlreadySealed))
async def create(offer: Offer, role: Annotated[str, Depends(requires("admin"))]) -> OfferRead:
    if offer.name == "sealed":
        raise CohortAlreadySealed
    if offer.name == "down":
        raise Unavailable("come back later")
    if offer.name == "broken":
        raise Violated("a thing that must never happen")
    if offer.name == "bug":
        raise ZeroDivisionError("the secret is 42")
    return OfferRead(price=Wei(offer.price))


@router.get("")
async def listed(after: Annotated[int, Depends(page_after)]) -> Page[OfferRead]:
    return Page(items=[], next=next_cursor(after + 1))


def an_app(*, ready: bool = True) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        yield {}

    async def check() -> None:
        if not ready:
            raise ServiceUnavailable("the trainer does not answer")

    app = create_service(
        title="Offers", description="", lifespan=lifespan, routers=[router], ready=lambda _: {"trainer": check}, body_limit=2_000
    )

    class State:
        """Stands in for the lifespan, which httpx does not run."""

        def __init__(self, inner: ASGIApp) -> None:
            self.inner = inner

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("state", {})["node_tokens"] = NodeTokens(admin="a" * 40, trainer="t" * 40)
            await self.inner(scope, receive, send)

    app.add_middleware(State)
    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(an_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://offers", headers={"Authorization": "Bearer " + "a" * 40}) as http:
        yield http


async def test_post__good_offer__answers_wei_as_text(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/offers", json={"name": "x", "price": str(2**200)})
    assert response.status_code == 200
    assert response.json() == {"price": str(2**200)}
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "status", "title"),
    [("sealed", 409, "CohortAlreadySealed"), ("down", 503, "Unavailable"), ("broken", 500, "Violated"), ("bug", 500, "Violated")],
)
async def test_post__handler_raises__answers_a_problem(client: httpx.AsyncClient, name: str, status: int, title: str) -> None:
    response = await client.post("/v1/offers", json={"name": name, "price": "1"}, headers={"X-Correlation-Id": "round-7"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == title
    assert response.json()["correlation_id"] == "round-7" == response.headers["x-correlation-id"]
    assert "42" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


def test_create_service__a_library_raised_the_recursion_limit__depth_is_refused_before_the_stack_overflows() -> None:
    sys.setrecursionlimit(100_000)  # as py_ecc does when it is imported
    an_app()

    with pytest.raises(RecursionError):
        json.loads("[" * 50_000 + "]" * 50_000)


BAD_BODIES = {
    "top level array": b"[]",
    "top level null": b"null",
    "name twice": b'{"name": "x", "price": "1", "price": "9"}',
    "not a number": b'{"name": "x", "price": NaN}',
    "utf-16": '{"name": "x", "price": "1"}'.encode("utf-16"),
    "broken utf-8": b'{"name": "\xff", "price": "1"}',
    "depth": b"[" * 990 + b"]" * 990,
    "cut off": b'{"name": "x", "pri',
    "lone surrogate": b'{"name": "\\ud800", "price": "1"}',
    "nul": b'{"name": "a\\u0000b", "price": "1"}',
    "right-to-left override": b'{"name": "a\\u202eb", "price": "1"}',
    "empty name": b'{"name": "", "price": "1"}',
    "digest too short": b'{"name": "x", "price": "1", "digest": "0x12"}',
    **{
        f"wei {text}": json.dumps({"name": "x", "price": value}).encode()
        for text, value in {
            "float": 1.5,
            "integer": 7,
            "exponent": "1e18",
            "hexadecimal": "0x10",
            "spaces": " 1 ",
            "underscores": "1_000",
            "arabic digits": "١٢٣",
            "minus": "-1",
            "leading zero": "01",
            "257 bits": str(2**256),
            "boolean": True,
            "null": None,
        }.items()
    },
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_post__bad_body__is_refused_with_a_sentence(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/offers", content=body, headers={"content-type": "application/json"})
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body", "is_told"),
    [
        (None, b'{"name": "x", "price": "1"}', True),
        ("text/plain", b'{"name": "x", "price": "1"}', True),
        ("application/x-www-form-urlencoded", b"name=x&price=1", True),
        ("application/json; charset=utf-8", b"[]", False),
        ("application/merge-patch+json", b"[]", False),
        ("application/json", b'{"name": "", "price": "1"}', False),
        (None, b"", False),
    ],
)
async def test_post__body_that_is_not_sent_as_json__is_told_how(
    client: httpx.AsyncClient, content_type: str | None, body: bytes, is_told: bool
) -> None:
    response = await client.post("/v1/offers", content=body, headers={} if content_type is None else {"content-type": content_type})
    assert response.status_code == 422
    assert ("send the body as application/json" in response.json()["detail"]) == is_told


@pytest.mark.parametrize("declared", [True, False])
async def test_post__body_over_the_limit__answers_413(client: httpx.AsyncClient, declared: bool) -> None:
    body = b'{"name": "' + b"x" * 3_000 + b'", "price": "1"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    response = await client.post("/v1/offers", content=body if declared else chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("x" * 40, 401), ("t" * 40, 403), ("ü", 401)])
async def test_post__wrong_token__is_refused(client: httpx.AsyncClient, token: str | None, status: int) -> None:
    client.headers.pop("Authorization")
    headers = {} if token is None else {b"authorization": f"Bearer {token}".encode()}
    response = await client.post("/v1/offers", json={"name": "x", "price": "1"}, headers=headers)
    assert response.status_code == status
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("cursor", ["x", "azE", "azE1", "k1", "😀", "a2sx", "azA5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
async def test_list__tampered_cursor__is_refused_or_read_as_a_number(client: httpx.AsyncClient, cursor: str) -> None:
    response = await client.get("/v1/offers", params={"after": cursor})
    assert response.status_code in {200, 422}
    assert response.headers["content-type"] in {"application/json", "application/problem+json"}


async def test_readyz__a_neighbour_is_down__answers_503_and_names_it() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(an_app(ready=False)), base_url="http://offers") as http:
        assert (await http.get("/healthz")).status_code == 200
        response = await http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"trainer": "the trainer does not answer"}


async def test_openapi__errors_of_a_route__are_in_the_document(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/offers"]["post"]
    assert document["openapi"].startswith("3.1")
    assert operation["operationId"] == "offers_create"
    assert "CohortAlreadySealed" in operation["responses"]["409"]["description"]


async def test_openapi__example_with_a_null__is_served_whole(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["SaleRead"]
    assert schema["required"] == ["price", "buyer"]
    assert schema["examples"] == [{"price": "5", "buyer": None}]


async def test_service_client__peer_answers__families_survive_the_wire() -> None:
    transport = httpx.ASGITransport(an_app(), raise_app_exceptions=False)
    peer = ServiceClient("offers", "http://offers", "a" * 40, transport=transport)
    with pytest.raises(PeerRefused) as refused:
        await peer.post("/v1/offers", {"name": "sealed", "price": "1"})
    assert refused.value.title == "CohortAlreadySealed"
    assert isinstance(refused.value, Refused)
    with pytest.raises(ServiceUnavailable) as waits:
        await peer.post("/v1/offers", {"name": "down", "price": "1"})
    assert waits.value.title == "Unavailable"
    await peer.close()


def test_create_service__router_reads_json_loosely__does_not_start() -> None:
    loose = APIRouter()
    loose.get("/x")(lambda: None)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        yield {}

    with pytest.raises(TypeError, match="StrictJsonRoute"):
        create_service(title="Loose", description="", lifespan=lifespan, routers=[loose], ready=lambda _: {})
