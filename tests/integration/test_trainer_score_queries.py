"""The trainer's score queries over its real pool, with an owner-api that answers the ticket from memory."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from small_model import KEY_BITS, manifest, private_key
from small_serving import DEPLOYMENT, FINAL_WEIGHTS_DIGEST, MARKET, opening, plain_score, scoring_model

from hessian.artifacts.application import Opening
from hessian.artifacts.codec import decode, encode
from hessian.artifacts.score_query import ScoreQuery
from hessian.identifiers import Timestamp, digest_of
from hessian.lending.sealing import sealing_key_pair
from hessian.paillier.certificate import KeyCertificate
from hessian.service.client import ServiceClient
from hessian.service.tokens import NodeTokens
from hessian.testing import valid_terms
from trainer.app import World, create_app
from trainer.isolation.local import ProcessIsolation
from trainer.isolation.worker import JobLimits
from trainer.pool import JobPool

MODEL = manifest(valid_terms(Timestamp(0)))
SCORING = scoring_model(MODEL)
KEY = sealing_key_pair().public
TICKET = "t" * 43


@dataclass
class Owner:
    """What the stand-in for owner-api hands out, and which tokens it heard."""

    ticket: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/tickets/application")
        async def application(request: Request) -> Response:
            self.tokens.append(request.headers["authorization"])
            if await request.json() != {"ticket": TICKET}:
                return JSONResponse({"title": "TicketRefused", "detail": "unknown"}, status_code=404)
            return JSONResponse(self.ticket)

        return app


@pytest.fixture(scope="module")
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def trainer(owner: Owner) -> AsyncIterator[httpx.AsyncClient]:
    client = ServiceClient("owner-api", "http://owner", "trainer-token", transport=httpx.ASGITransport(owner.app()))
    async with JobPool(ProcessIsolation(JobLimits(1 << 30, 30, 30.0, 1 << 24)), processes=1, waiting=2) as pool:
        tokens = NodeTokens(coordinator="coordinator-token", trainer="trainer-token")
        app = create_app(World(pool=pool, owner=client, node_tokens=tokens, minimum_key_bits=KEY_BITS))
        async with (
            LifespanManager(app) as running,
            httpx.AsyncClient(
                transport=httpx.ASGITransport(running.app), base_url="http://trainer", headers={"Authorization": "Bearer trainer-token"}
            ) as http,
        ):
            yield http
    await client.close()


def body(manifest: bytes = MODEL.to_bytes(), scoring: bytes = SCORING.to_bytes(), ticket: str = TICKET) -> dict[str, str]:
    return {"ticket": ticket, "manifest": base64.b64encode(manifest).decode(), "scoring_model": base64.b64encode(scoring).decode()}


def ticket_for(opened: Opening, manifest: bytes = MODEL.to_bytes(), scoring: bytes = SCORING.to_bytes(), **change: Any) -> dict[str, Any]:
    return {
        "features": dict(opened.features),
        "salt": opened.salt.hex(),
        "blinding": f"{opened.blinding:x}",
        "borrower_key": KEY.hex(),
        "chain_id": MARKET.chain_id,
        "contract": "0x" + MARKET.contract.hex(),
        "deployment_id": DEPLOYMENT,
        "manifest_digest": digest_of(manifest).hex(),
        "weights_digest": FINAL_WEIGHTS_DIGEST.hex(),
        "scoring_digest": digest_of(scoring).hex(),
        **change,
    }


async def test_score_query__with_a_ticket__answers_a_query_that_decodes_to_the_score(trainer: httpx.AsyncClient, owner: Owner) -> None:
    opened = opening(MODEL)
    owner.ticket = ticket_for(opened)
    answers = [await trainer.post("/v1/score-queries", json=body()) for _ in range(2)]
    assert [answer.headers["content-type"] for answer in answers] == ["application/vnd.ipld.dag-cbor"] * 2
    for answer in answers:
        query = ScoreQuery.from_bytes(answer.content)
        ciphertext = query.check_against(MARKET, DEPLOYMENT, SCORING.digest, MODEL.public_key)
        assert private_key().decrypt_blinded(ciphertext, SCORING.scale.blinding_bits) == plain_score(MODEL, dict(opened.features))
        assert (query.commitment, query.borrower_key) == (opened.commitment(MODEL.public_key), KEY)
    assert answers[0].content != answers[1].content
    assert owner.tokens[-1] == "Bearer trainer-token"


async def test_score_query__a_feature_out_of_range__is_refused_with_its_name(trainer: httpx.AsyncClient, owner: Owner) -> None:
    opened = opening(MODEL)
    owner.ticket = ticket_for(replace(opened, features={**opened.features, "income": "100001"}))
    answer = await trainer.post("/v1/score-queries", json=body())
    assert (answer.status_code, answer.json()["title"]) == (422, "JobRefused")
    assert answer.json()["detail"] == "income: must lie between 0 and 100000"


def with_blinding_bits(bits: int) -> bytes:
    fields = decode(SCORING.to_bytes())
    assert isinstance(fields, dict)
    return encode(fields | {"scale": SCORING.scale.to_plain() | {"blinding_bits": bits}})


FORGED = replace(MODEL, certificate=KeyCertificate((bytes(KEY_BITS // 8 - 1) + b"\x02",) * 7))


@pytest.mark.parametrize(
    ("manifest", "scoring", "says"),
    [
        (MODEL.to_bytes(), with_blinding_bits(41), "between 8 and 40"),
        (FORGED.to_bytes(), replace(SCORING, manifest=FORGED.digest).to_bytes(), "not an n-th root"),
        (replace(MODEL, name="other").to_bytes(), SCORING.to_bytes(), "another manifest"),
        (MODEL.to_bytes(), replace(SCORING, weights=digest_of(b"others")).to_bytes(), "other weights"),
        (MODEL.to_bytes(), MODEL.to_bytes(), "not a hessian/scoring-model"),
        (b"\x00", SCORING.to_bytes(), "manifest"),
    ],
    ids=["t of 41", "forged certificate", "another manifest", "other weights", "no scoring model", "no manifest"],
)
async def test_score_query__artifacts_that_do_not_fit__are_refused(
    trainer: httpx.AsyncClient, owner: Owner, manifest: bytes, scoring: bytes, says: str
) -> None:
    owner.ticket = ticket_for(opening(MODEL), manifest, scoring)
    answer = await trainer.post("/v1/score-queries", json=body(manifest, scoring))
    assert (answer.status_code, answer.json()["title"]) == (422, "JobRefused")
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("named", ["manifest_digest", "scoring_digest"])
async def test_score_query__other_artifacts_than_the_tickets__are_refused(trainer: httpx.AsyncClient, owner: Owner, named: str) -> None:
    owner.ticket = ticket_for(opening(MODEL)) | {named: "00" * 32}
    answer = await trainer.post("/v1/score-queries", json=body())
    assert (answer.status_code, answer.json()["title"]) == (409, "TicketForOtherArtifacts")


@pytest.mark.parametrize("change", [{"features": {}}, {"blinding": "-1"}, {"more": 1}, {"contract": "0x12"}, {"salt": "00"}])
async def test_score_query__an_answer_from_owner_api_that_makes_no_sense__is_unavailable(
    trainer: httpx.AsyncClient, owner: Owner, change: dict[str, Any]
) -> None:
    owner.ticket = ticket_for(opening(MODEL), **change)
    assert (await trainer.post("/v1/score-queries", json=body())).status_code == 503


async def test_score_query__an_unknown_ticket__is_refused_with_the_owners_words(trainer: httpx.AsyncClient) -> None:
    answer = await trainer.post("/v1/score-queries", json=body(ticket="x" * 43))
    assert (answer.status_code, answer.json()["title"]) == (400, "PeerRefused")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("nobody", 401), ("coordinator-token", 403)])
async def test_score_query__with_another_token_than_owner_apis__is_not_done(
    trainer: httpx.AsyncClient, token: str | None, status: int
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {"Authorization": ""}
    assert (await trainer.post("/v1/score-queries", json=body(), headers=headers)).status_code == status
