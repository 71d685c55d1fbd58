"""`python -m owner_api` and `python -m trainer` as processes that talk HTTP: migrate, serve, be killed, go on, stop when told."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from owner_node import Lender, bearer, dataset_query, eventually
from small_model import KEY_BITS, Rows

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.processes import Child, answers, free_port, wait_until
from hessian.chain.client import connect
from hessian.chain.repository import ModelRepository
from hessian.identifiers import Address, Wei
from hessian.ipfs.kubo import connect_store
from hessian.settings import DatabaseSettings
from hessian.testing import MemoryStore

Environment = dict[str, str]
ROLES = ("admin", "coordinator", "trainer")


@pytest.fixture
def environment(
    tmp_path: Path,
    database_settings: DatabaseSettings,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> Environment:
    """Everything both services read; secrets in files, the tokens equal to their roles for the test's convenience."""
    values = {
        "database_url": database_settings.database_url,
        "database_password_file": str(database_settings.database_password_file),
        "rpc_url": anvil.url,
        "chain_id": str(anvil.chain_id),
        "repository_address": repository_contract.address,
        "deployment_address": serving_contract.address,
        "ipfs_url": block_store,
        "data_directory": str(tmp_path / "data"),
        "minimum_key_bits": str(KEY_BITS),
        "keystore_work": "4096",
        "policy_rows_per_feature": "2",
        "policy_minimum_window_seconds": "1",
        "enrollment_poll_seconds": "0.2",
        "job_processes": "1",
        "log_json": "true",
        "owner_url": f"http://127.0.0.1:{free_port()}",
        "trainer_url": f"http://127.0.0.1:{free_port()}",
    }
    for name, secret in [(f"{role}_token_file", f"{role}-token") for role in ROLES] + [("passphrase_file", "open sesame, please")]:
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text(secret, encoding="utf-8")
        values[name] = str(file)
    return {"PATH": os.environ["PATH"], **{f"HESSIAN_{name.upper()}": value for name, value in values.items()}}


Start = Callable[[str, str], Child]


@pytest.fixture
def start(environment: Environment, tmp_path: Path) -> Iterator[Start]:
    started: list[Child] = []

    def one(package: str, url: str) -> Child:
        port = int(environment[url].rpartition(":")[2])
        own = environment | {"HESSIAN_PORT": str(port)}
        child = Child(package, [sys.executable, "-m", package], tmp_path / f"{package}.log", environment=own)
        child.start()
        started.append(child)
        wait_until(lambda: answers("127.0.0.1", port), child, seconds=40.0)
        return child

    yield one
    for child in started:
        child.stop()


@pytest.fixture
async def lender(anvil: Anvil, repository_contract: Deployment) -> AsyncIterator[Lender]:
    async with connect(anvil.url, poll_seconds=0.05) as chain:
        yield Lender(chain, ModelRepository(chain, repository_contract.address), anvil.new_account(), MemoryStore())


def run(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment | {"HESSIAN_PORT": "0"}, capture_output=True, text=True, timeout=60, check=False)


async def test_enrolment__service_killed_in_the_middle__is_finished_after_the_restart(
    environment: Environment, start: Start, lender: Lender, anvil: Anvil, block_store: str
) -> None:
    assert run(environment, "owner_api", "migrate").returncode == 0
    owner_api = start("owner_api", "HESSIAN_OWNER_URL")
    model_id, _, _ = await lender.create_model(cohort_size=1, submit_window=600)
    async with connect_store(block_store) as store:
        for data in lender.store.blocks.values():
            await store.put(data)
    async with httpx.AsyncClient(base_url=environment["HESSIAN_OWNER_URL"], trust_env=False, timeout=20) as api:
        owner = (await api.post("/v1/owners", json={"name": "killed"}, headers=bearer("admin-token"))).json()
        anvil.fund(Address(owner["address"]), Wei(10**18))
        mine = bearer(owner["token"])
        dataset = (await api.post("/v1/datasets", params=dataset_query(), content=Rows(1, 2_000).csv(), headers=mine)).json()
        assert (await api.put(f"/v1/catalogue/{model_id}", headers=bearer("coordinator-token"))).status_code == 200
        wanted = {"model_id": model_id, "dataset_id": dataset["id"], "accept_alone": True}
        answer = await api.post("/v1/enrollments", json=wanted, headers=mine | {"Idempotency-Key": secrets.token_hex(8)})
        assert answer.status_code == 202, answer.text

        async def enrollment() -> Any:
            return (await api.get(f"/v1/enrollments/{answer.json()['id']}", headers=mine)).json()

        assert (await enrollment())["state"] == "measuring"  # the trainer is not there yet
        assert owner_api.process is not None
        owner_api.process.send_signal(signal.SIGKILL)
        owner_api.process.wait(20)
        trainer, second = start("trainer", "HESSIAN_TRAINER_URL"), start("owner_api", "HESSIAN_OWNER_URL")
        found = await eventually(enrollment, lambda found: found["state"] in ("sealed", "refused"))
        assert (found["state"], found["members"]) == ("sealed", "1/1")
        assert (await api.get("/readyz")).json()["status"] == "ready"
    logs = second.log.read_text(encoding="utf-8") + trainer.log.read_text(encoding="utf-8")
    assert owner["token"] not in logs
    assert "open sesame" not in logs
    for child in (second, trainer):
        child.ask_to_stop()
        assert child.process is not None
        assert child.process.wait(30) == 0


def test_start__on_an_empty_database__says_how_to_migrate(environment: Environment) -> None:
    behind = run(environment, "owner_api")
    assert (behind.returncode, "python -m owner_api migrate" in behind.stderr) == (1, True)
