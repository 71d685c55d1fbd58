"""`hessian status` at a glance: what the coordinator and lender-api answer, page by page, as tables or for programs."""

from __future__ import annotations

import io

import httpx
import pytest
from rich.console import Console

from devstack.overview import Overview, overview, show
from hessian.errors import ServiceUnavailable

MODEL = {
    "model_id": 1, "state": "open", "initial_error": 49_000_000, "best_error": 47_000_000, "target_error": 46_000_000, "cohort_size": 5,
    "rounds_paid": 1, "max_rounds": 8, "bounty_wei": str(10**18), "paid_wei": str(10**17), "refunded_wei": "0",
    "cohorts": [{"is_sealed": False, "members": [{}, {}]}],
}  # fmt: skip
ROUND = {
    "round_id": 7, "model_id": 1, "state": "settled", "members": [{}, {}], "submitted": 2, "unlocked": 2, "error_after": 47_000_000,
    "pool_wei": str(10**17), "jobs": [{"state": "done"}, {"state": "set_aside"}],
}  # fmt: skip
WALLET = {"address": "0xabc", "balance_wei": str(2 * 10**18), "credit_wei": "0"}


def answer(request: httpx.Request) -> httpx.Response:
    assert request.headers["authorization"] == "Bearer token"
    match request.url.path, request.url.params.get("after"):
        case "/v1/status", _:
            body: dict[str, object] = {"lag_blocks": 0, "lag_seconds": 0, "jobs": {"done": 3, "set_aside": 1, "planned": 0}}
        case "/v1/models", None:
            body = {"items": [MODEL], "next": "1"}
        case "/v1/models", "1":
            body = {"items": [{**MODEL, "model_id": 2, "cohorts": []}], "next": None}
        case "/v1/rounds", _:
            body = {"items": [ROUND], "next": None}
        case _:
            body = dict(WALLET)
    return httpx.Response(200, json=body)


def asked() -> Overview:
    return overview("http://coordinator", "http://lender", "token", transport=httpx.MockTransport(answer))


def test_overview__models_on_two_pages__has_them_all() -> None:
    assert [model["model_id"] for model in asked().models] == [1, 2]


def test_show__models_rounds_and_jobs__says_each_with_its_money() -> None:
    console = Console(file=io.StringIO(), width=160)
    show(asked(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()

    for words in ("0.049000", "2/5", "1.0000", "settled", "1 set aside", "3 done, 1 set aside", "2.0000 ether"):
        assert words in text


def test_overview__a_service_that_answers_nonsense__is_unavailable() -> None:
    with pytest.raises(ServiceUnavailable):
        overview("http://c", "http://l", "token", transport=httpx.MockTransport(lambda _: httpx.Response(200, json={})))
    with pytest.raises(ServiceUnavailable):
        overview("http://c", "http://l", "token", transport=httpx.MockTransport(lambda _: httpx.Response(500)))
