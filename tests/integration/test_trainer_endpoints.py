"""The trainer's statistics and gradient steps over its real pool, with an owner-api that answers tickets from memory."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from small_model import KEY_BITS, Rows, encrypted_weights, manifest, private_key, specification

from hessian.artifacts.gradient import MaskedGradient
from hessian.cohorts.masks import fresh_seed, self_masks
from hessian.identifiers import Timestamp
from hessian.learning.affine import gradient_map
from hessian.learning.statistics import SufficientStatistics
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import unpack
from hessian.service.client import ServiceClient
from hessian.service.tokens import NodeTokens
from hessian.testing import valid_terms
from trainer.app import World, create_app
from trainer.isolation.local import ProcessIsolation
from trainer.isolation.worker import JobLimits
from trainer.pool import JobPool
from trainer.statistics import statistics_of

MODEL = manifest(valid_terms(Timestamp(0)))
CONTEXT = bytes(32)
TICKET = "t" * 43
OWNER_API = {"Authorization": "Bearer trainer-token"}
WEIGHTS = [1 << 20, 5, -7, 1 << 23, 0]


@dataclass
class Owner:
    """What the stand-in for owner-api hands out, and what it heard."""

    rows: bytes = b""
    redeemed: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/tickets/rows")
        async def rows(request: Request) -> Response:
            self.tokens.append(request.headers["authorization"])
            if await request.json() != {"ticket": TICKET}:
                return JSONResponse({"title": "TicketRefused", "detail": "unknown"}, status_code=404)
            return Response(self.rows, media_type="text/csv")

        @app.post("/v1/tickets/redeem")
        async def redeem() -> dict[str, Any]:
            return self.redeemed

        return app


@pytest.fixture(scope="module")
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def trainer(owner: Owner) -> AsyncIterator[httpx.AsyncClient]:
    client = ServiceClient("owner-api", "http://owner", "trainer-token", transport=httpx.ASGITransport(owner.app()))
    async with JobPool(ProcessIsolation(JobLimits(1 << 30, 30, 30.0, 1 << 24)), processes=1, waiting=2) as pool:
        tokens = NodeTokens(coordinator="coordinator-token", trainer="trainer-token")
        app = create_app(World(pool=pool, owner=client, node_tokens=tokens, minimum_key_bits=KEY_BITS, job_threads=2))
        async with (
            LifespanManager(app) as running,
            httpx.AsyncClient(
                transport=httpx.ASGITransport(running.app), base_url="http://trainer", headers={"Authorization": "Bearer coordinator-token"}
            ) as http,
        ):
            yield http
    await client.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_statistics__with_a_ticket__streams_the_rows_and_answers_the_sums(trainer: httpx.AsyncClient, owner: Owner) -> None:
    owner.rows = Rows(4, 200).csv()
    answer = await trainer.post("/v1/statistics", json={"ticket": TICKET, "manifest": b64(MODEL.to_bytes())}, headers=OWNER_API)
    assert answer.status_code == 200
    assert SufficientStatistics.from_plain(answer.json()) == statistics_of([owner.rows], specification())
    assert owner.tokens[-1] == "Bearer trainer-token"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (b"income,age,region\n1,30,N\n", "Class"),
        (b"income,age,region,Class\n1,30,N\n", "row 1"),
        (b"income,age,region,Class\nnan,30,N,bad\n", "row 1"),
        (b"income,age,region,Class\n1,inf,N,bad\n", "row 1"),
        (b"income,age,region,Class\n1,30,N,maybe\n", "row 1"),
        (b"income,age,region,Class\n-5,30,N,bad\n", "range"),
        (b"", "empty"),
    ],
)
async def test_statistics__rows_that_do_not_fit__are_refused_with_the_place(
    trainer: httpx.AsyncClient, owner: Owner, rows: bytes, says: str
) -> None:
    owner.rows = rows
    answer = await trainer.post("/v1/statistics", json={"ticket": TICKET, "manifest": b64(MODEL.to_bytes())}, headers=OWNER_API)
    assert (answer.status_code, answer.json()["title"]) == (422, "JobRefused")
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xa1", MODEL.to_bytes() + b"\x00", MODEL.to_bytes()[:-1]])
async def test_statistics__a_manifest_that_is_none__is_refused(trainer: httpx.AsyncClient, owner: Owner, data: bytes) -> None:
    owner.rows = Rows(4, 5).csv()
    answer = await trainer.post("/v1/statistics", json={"ticket": TICKET, "manifest": b64(data)}, headers=OWNER_API)
    assert (answer.status_code, answer.json()["title"]) == (422, "JobRefused")


async def test_statistics__an_unknown_ticket__is_refused_with_the_owners_words(trainer: httpx.AsyncClient) -> None:
    answer = await trainer.post("/v1/statistics", json={"ticket": "x" * 43, "manifest": b64(MODEL.to_bytes())}, headers=OWNER_API)
    assert (answer.status_code, answer.json()["title"]) == (400, "PeerRefused")


def redeemed(rows: bytes, seed: bytes, weights: bytes) -> dict[str, Any]:
    statistics = statistics_of([rows], specification())
    return {
        "statistics": statistics.to_plain(),
        "total_rows": statistics.rows,
        "member_index": 0,
        "context": CONTEXT.hex(),
        "manifest_digest": MODEL.digest.hex(),
        "weights_digest": __import__("hashlib").sha256(weights).hexdigest(),
        "pair_masks": [],
        "self_mask": seed.hex(),
    }


async def test_gradient_step__with_a_ticket__answers_an_artifact_that_opens_to_the_gradient(
    trainer: httpx.AsyncClient, owner: Owner
) -> None:
    rows, seed, weights = Rows(5, 60).csv(), fresh_seed(), encrypted_weights(MODEL, WEIGHTS).to_bytes()
    owner.redeemed = redeemed(rows, seed, weights)
    body = {"ticket": TICKET, "manifest": b64(MODEL.to_bytes()), "weights": b64(weights)}
    answers = [await trainer.post("/v1/gradient-steps", json=body) for _ in range(2)]
    assert [answer.headers["content-type"] for answer in answers] == ["application/vnd.ipld.dag-cbor"] * 2
    statistics, n = statistics_of([rows], specification()), MODEL.public_key.n
    wanted = gradient_map(statistics, 60, MODEL.specification.feature_bits, MODEL.bounds).at(WEIGHTS)
    for answer in answers:
        ciphertexts = MaskedGradient.from_bytes(answer.content).check_against(MODEL, CONTEXT, 0)
        masks = self_masks([seed], CONTEXT, len(ciphertexts), n)
        plain = [centre((private_key().decrypt(c) - mask) % n, n) for c, mask in zip(ciphertexts, masks, strict=True)]
        assert unpack(plain, MODEL.layout, MODEL.dimension) == wanted
    assert answers[0].content != answers[1].content


async def test_gradient_step__other_weights_than_the_tickets__are_refused(trainer: httpx.AsyncClient, owner: Owner) -> None:
    issued, sent = (encrypted_weights(MODEL, WEIGHTS).to_bytes() for _ in range(2))
    owner.redeemed = redeemed(Rows(5, 60).csv(), fresh_seed(), issued)
    answer = await trainer.post("/v1/gradient-steps", json={"ticket": TICKET, "manifest": b64(MODEL.to_bytes()), "weights": b64(sent)})
    assert (answer.status_code, answer.json()["title"]) == (409, "TicketForOtherArtifacts")


async def test_gradient_step__an_answer_from_owner_api_that_makes_no_sense__is_unavailable(
    trainer: httpx.AsyncClient, owner: Owner
) -> None:
    owner.redeemed = {"statistics": "none"}
    answer = await trainer.post("/v1/gradient-steps", json={"ticket": TICKET, "manifest": b64(MODEL.to_bytes()), "weights": b64(b"x")})
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/v1/gradient-steps", None, 401),
        ("/v1/gradient-steps", "nobody", 401),
        ("/v1/gradient-steps", "trainer-token", 403),
        ("/v1/statistics", None, 401),
        ("/v1/statistics", "coordinator-token", 403),
    ],
)
async def test_jobs__with_another_token_than_their_callers__are_not_done(
    trainer: httpx.AsyncClient, path: str, token: str | None, status: int
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {"Authorization": ""}
    assert (await trainer.post(path, json={}, headers=headers)).status_code == status


async def test_body__over_the_limit__is_refused_before_it_is_read(trainer: httpx.AsyncClient) -> None:
    answer = await trainer.post("/v1/gradient-steps", content=b"x" * (5 << 20), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


async def test_openapi__every_route__has_a_summary_and_problem_shapes(trainer: httpx.AsyncClient) -> None:
    document = (await trainer.get("/openapi.json")).json()
    for path in ("/v1/statistics", "/v1/gradient-steps", "/v1/score-queries"):
        route = document["paths"][path]["post"]
        assert route["summary"]
        assert "422" in route["responses"]
