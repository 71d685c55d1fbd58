"""The stack of `make up`: state survives a restart, one `kill -9` of each process, and one of the supervisor itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from devstack.services import SERVICES
from devstack.stack import Stack
from devstack.supervisor import start_detached, status_of, stop_detached, supervisor_of

PATIENCE = 90.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("kept") / "stack"
    yield place
    stop_detached(place)
    Stack(place, kept=True).erase()


def _stack(directory: Path) -> Stack:
    stack = Stack(directory, kept=True)
    stack.load()
    return stack


def _owners(stack: Stack) -> list[str]:
    headers = {"Authorization": f"Bearer {stack.token('admin')}"}
    return [owner["name"] for owner in httpx.get(f"{stack.url('owner-api')}/v1/owners", headers=headers, trust_env=False).json()["items"]]


def _process_of(directory: Path, name: str) -> psutil.Process:
    supervisor = supervisor_of(directory)
    assert supervisor is not None
    marks = {service.name: f"-m {service.package}" for service in SERVICES} | {"block-store": "devstack.block_store"}
    mark = marks.get(name, name)
    return next(child for child in supervisor.children() if mark in " ".join(child.cmdline()))


def _wait_until_whole(directory: Path, *, without: int) -> None:
    """Every service is ready, and the killed process is not among the supervisor's children."""
    stack, until = _stack(directory), time.monotonic() + PATIENCE
    expected = len(SERVICES) + 3
    while True:
        supervisor = supervisor_of(directory)
        children = [] if supervisor is None else [child for child in supervisor.children() if child.pid != without]
        if len(children) == expected and all(stack.is_ready(service.name) for service in SERVICES):
            return
        assert time.monotonic() < until, (directory / "supervisor.log").read_text()
        time.sleep(0.1)


def test_up__for_the_first_time__runs_every_service_and_keeps_an_owner(directory: Path) -> None:
    start_detached(directory)
    stack = _stack(directory)
    assert all(stack.is_ready(service.name) for service in SERVICES)
    headers = {"Authorization": f"Bearer {stack.token('admin')}", "Idempotency-Key": "kept-stack-owner"}
    answer = httpx.post(f"{stack.url('owner-api')}/v1/owners", json={"name": "Kept Bank"}, headers=headers, trust_env=False, timeout=30)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("name", ["postgres", "anvil", "block-store", *(service.name for service in SERVICES)])
def test_kill__one_process_of_the_stack__comes_back_with_its_state(directory: Path, name: str) -> None:
    victim = _process_of(directory, name)
    victim.kill()
    _wait_until_whole(directory, without=victim.pid)
    assert _owners(_stack(directory)) == ["Kept Bank"]


def test_kill__the_supervisor__takes_its_children_along_and_up_continues(directory: Path) -> None:
    supervisor, before = supervisor_of(directory), _stack(directory)
    assert supervisor is not None
    children = supervisor.children()
    os.kill(supervisor.pid, signal.SIGKILL)
    psutil.wait_procs(children, timeout=30)
    start_detached(directory)
    after = _stack(directory)
    assert (after.repository, after.serving) == (before.repository, before.serving)
    assert _owners(after) == ["Kept Bank"]


def test_down__and_up_again__has_the_same_contract_and_owner(directory: Path) -> None:
    before = _stack(directory)
    assert stop_detached(directory)
    assert status_of(directory) == "stopped"
    assert not stop_detached(directory)
    start_detached(directory)
    assert (_stack(directory).repository, _stack(directory).serving) == (before.repository, before.serving)
    assert _stack(directory).ports == before.ports
    assert _owners(_stack(directory)) == ["Kept Bank"]
