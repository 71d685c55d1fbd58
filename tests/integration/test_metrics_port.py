"""/metrics on a real port, and what a scrape does when a neighbour is silent."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from exposition import Exposition, counted, scrape
from prometheus_client.core import GaugeMetricFamily

from devstack.processes import free_port
from hessian.errors import ChainUnavailable
from hessian.metrics import REGISTRY, TRAINER_SECONDS, timed
from hessian.service import metrics
from hessian.service.metrics import gauge, serve_metrics
from hessian.service.process import CannotListen
from hessian.settings import ServiceSettings


async def one() -> list[GaugeMetricFamily]:
    return [gauge("chain_head_block", "", 7)]


async def silent() -> list[GaugeMetricFamily]:
    await asyncio.Event().wait()
    return []


async def gone() -> list[GaugeMetricFamily]:
    raise ChainUnavailable


async def test_serve_metrics__with_a_port__answers_there_and_on_no_other_path() -> None:
    stop, port = asyncio.Event(), free_port()
    settings = ServiceSettings(port=1, metrics_port=port)
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as http:
        tasks.create_task(serve_metrics({"chain": one}, settings, stop))
        answer = await first_answer(http)
        assert answer.headers["content-type"].startswith("text/plain")
        read = Exposition(answer.text)
        assert read.value("chain_head_block") == 7
        assert {name.removeprefix("hessian_") for name in counted() if name.startswith("hessian_trainer_jobs")} <= read.names
        assert (await http.get("/docs")).status_code == (await http.get("/openapi.json")).status_code == 404
        stop.set()


async def first_answer(http: httpx.AsyncClient) -> httpx.Response:
    async with asyncio.timeout(20):
        while True:
            try:
                return await http.get("/metrics")
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


async def test_serve_metrics__no_port__returns_and_serves_nothing() -> None:
    await serve_metrics({}, ServiceSettings(port=1), asyncio.Event())


async def test_serve_metrics__host_of_its_own__answers_there_and_not_where_the_api_does() -> None:
    stop, port = asyncio.Event(), free_port()
    settings = ServiceSettings(host="127.0.0.1", port=1, metrics_host="127.0.0.2", metrics_port=port)
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(trust_env=False) as http:
        tasks.create_task(serve_metrics({"chain": one}, settings, stop))
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.2:{port}") as metrics_alone:
            assert (await first_answer(metrics_alone)).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{port}/metrics")
        stop.set()


@pytest.mark.parametrize(("told", "named"), [({}, "HESSIAN_HOST"), ({"metrics_host": "127.0.0.1"}, "HESSIAN_METRICS_HOST")])
async def test_serve_metrics__port_taken__names_the_right_variables(told: dict[str, str], named: str) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(CannotListen, match=f"{named} 127.0.0.1 and HESSIAN_METRICS_PORT {port} "):
        await serve_metrics({}, ServiceSettings.model_validate({"port": 1, "metrics_port": port, **told}), asyncio.Event())
    server.close()


async def test_scrape__one_neighbour_silent_and_one_gone__the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "READ_SECONDS", 0.05)
    read = await scrape({"database": one, "chain": silent, "escrow": gone})
    assert read.value("chain_head_block") == 7
    assert [read.value("scrape_incomplete", neighbour=name) for name in ("database", "chain", "escrow")] == [0, 1, 1]


async def test_timed__ends_well_or_with_an_error__names_its_class_only() -> None:
    with pytest.raises(ChainUnavailable), timed(TRAINER_SECONDS, kind="test-of-timed"):
        raise ChainUnavailable("at 0x1111111111111111111111111111111111111111")
    with timed(TRAINER_SECONDS, kind="test-of-timed"):
        pass
    found = [sample.labels for family in REGISTRY.collect() for sample in family.samples if sample.labels.get("kind") == "test-of-timed"]
    assert {labels["outcome"] for labels in found} == {"ok", "ChainUnavailable"}
