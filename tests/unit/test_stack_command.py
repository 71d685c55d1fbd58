"""The `hessian` command's own words: what `status` makes of the services' answers, and what `faucet` refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from devstack.__main__ import account_of, app, wei_of
from devstack.health import Readiness, progress, readiness
from devstack.processes import ProcessFailed
from devstack.services import SERVICES
from hessian.errors import Malformed

ACCOUNT = "0x52908400098527886E0F7030069857D2E4169EE7"
URLS = {service.name: f"http://{service.name}" for service in SERVICES}


def test_readiness__one_waits_and_one_is_gone__says_which_and_why() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "trainer":
            raise httpx.ConnectError("refused")
        if request.url.host == "coordinator":
            checks = {"database": "ok", "chain": "the Ethereum node does not answer"}
            return httpx.Response(503, json={"status": "waiting", "checks": checks})
        return httpx.Response(200, json={"status": "ready", "checks": {"database": "ok"}})

    assert readiness(URLS, transport=httpx.MockTransport(answer)) == [
        Readiness("trainer", False, ("it does not answer",)),
        Readiness("lender-api", True),
        Readiness("owner-api", True),
        Readiness("coordinator", False, ("the Ethereum node does not answer",)),
    ]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, {"lag_blocks": 3, "lag_seconds": 12, "jobs": {"done": 4, "set_aside": 2}}, "3 blocks (12 s) behind the final block; 2 jobs"),
        (200, {"lag_blocks": 0, "lag_seconds": 0, "jobs": {"set_aside": 0}}, "no job set aside"),
        (200, {"lag_blocks": None, "lag_seconds": None, "jobs": {"set_aside": 0}}, "has not read a block yet"),
        (503, {"title": "ChainUnavailable"}, "does not tell its progress (HTTP 503)"),
    ],
)
def test_progress__the_coordinator_answers__is_one_sentence(status: int, body: dict[str, Any], words: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.url.path, request.headers["authorization"]) == ("/v1/status", "Bearer admin-token")
        return httpx.Response(status, json=body)

    assert words in progress("http://coordinator", "admin-token", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("text", ["", "0x12", ACCOUNT[2:], ACCOUNT.replace("E", "e", 1), ACCOUNT + "0", "somebody"])
def test_account_of__no_address__is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="is no account"):
        account_of(text)


def test_account_of__lower_case__gets_its_checksum() -> None:
    assert account_of(ACCOUNT.lower()) == ACCOUNT


@pytest.mark.parametrize("ether", ["-1", "0", "nan", "inf", "1e-19", "1e10", "ten", ""])
def test_wei_of__no_amount_to_give__is_refused(ether: str) -> None:
    with pytest.raises(Malformed, match="ether"):
        wei_of(ether)


@pytest.mark.parametrize(
    ("ether", "wei"), [("10", 10**19), ("0.1", 10**17), ("1e-18", 1), ("123456789.000000000000000001", 123456789 * 10**18 + 1)]
)
def test_wei_of__any_amount__is_exact(ether: str, wei: int) -> None:
    assert wei_of(ether) == wei


def test_faucet__the_stack_is_stopped__says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"^the stack is stopped: hessian up$"):
        CliRunner().invoke(app, ["faucet", ACCOUNT, "--directory", str(tmp_path)], catch_exceptions=False)


def test_status__the_stack_is_stopped__ends_with_three(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--directory", str(tmp_path)])
    assert (result.exit_code, result.output) == (3, "stopped\n")
