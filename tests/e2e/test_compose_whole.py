"""The whole of docker-compose.yml in containers: brought up, taken down without its volumes, brought up again.

Skipped where no Docker daemon answers.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from isolations import require_wish

from devstack.anvil import POCKET_MONEY, Anvil
from devstack.composed import RPC_PORT, Project, complaint, docker
from devstack.contracts import fixed_address
from devstack.demo.parties import Rest
from hessian.identifiers import Address

pytestmark = pytest.mark.timeout(1_800)  # images are built the first time
SERVICES = {"lender-api", "owner-api", "trainer", "coordinator", "postgres", "chain", "ipfs"}
JOBS = {"secrets", "roles", "contracts", "migrate-lender-api", "migrate-owner-api", "migrate-coordinator"}


@pytest.fixture(scope="module")
def whole() -> Iterator[Project]:
    require_wish()
    if reason := complaint():
        pytest.skip(f"no Docker daemon with Compose 2: {reason}")
    project = Project(f"hessian-test-{secrets.token_hex(3)}-whole")
    project.compose("build", "--quiet")
    try:
        project.up()
        yield project
    finally:
        project.erase()


def containers(project: Project) -> dict[str, dict[str, Any]]:
    """Service → what Docker knows of its container."""
    found = json.loads(docker("inspect", *project.compose("ps", "--all", "--quiet").split()))
    return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}


def require_well(found: dict[str, dict[str, Any]]) -> None:
    """Every service answers, and every one-shot job has done its work."""
    assert set(found) == SERVICES | JOBS
    assert {name: found[name]["State"]["Health"]["Status"] for name in SERVICES} == dict.fromkeys(SERVICES, "healthy")
    assert {name: (found[name]["State"]["Status"], found[name]["State"]["ExitCode"]) for name in JOBS} == dict.fromkeys(JOBS, ("exited", 0))


def chain_of(project: Project, log: Path) -> Anvil:
    return Anvil(log, port=int(project.address("chain", RPC_PORT).rpartition(":")[2]))


def test_stack__down_without_volumes_and_up_again__is_the_same_stack(whole: Project, tmp_path: Path) -> None:
    before = containers(whole)
    require_well(before)
    with Rest(whole.address("owner-api"), whole.secret("owner-api", "admin.token")) as admin:
        owner = admin.post("/v1/owners", {"name": "ash"})
    with chain_of(whole, tmp_path / "chain.log").attached() as chain:
        chain.fund(Address(owner["address"]), POCKET_MONEY)
        number = hex(chain.final())
        block = chain.call("eth_getBlockByNumber", number, False)["hash"]
        codes = [chain.call("eth_getCode", fixed_address(place), "latest") for place in (0, 1)]
    assert all(len(code) > len("0x") for code in codes)

    whole.compose("down", "--timeout", "60")
    assert whole.compose("ps", "--all", "--quiet") == ""
    whole.up()

    after = containers(whole)
    require_well(after)
    assert not {one["Id"] for one in before.values()} & {one["Id"] for one in after.values()}
    with chain_of(whole, tmp_path / "chain.log").attached() as chain:
        assert chain.call("eth_getBlockByNumber", number, False)["hash"] == block  # the same chain, not another with the same contracts
        assert [chain.call("eth_getCode", fixed_address(place), "latest") for place in (0, 1)] == codes
    with Rest(whole.address("owner-api"), whole.secret("owner-api", "admin.token")) as admin:
        assert [(one["id"], one["address"]) for one in admin.all("/v1/owners")] == [(owner["id"], owner["address"])]
    with Rest(whole.address("owner-api"), owner["token"]) as itself:
        assert itself.get("/v1/owners/me") == {name: value for name, value in owner.items() if name != "token"} | {
            "balance_wei": str(POCKET_MONEY)
        }
