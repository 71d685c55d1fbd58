"""A node that has grown: two coordinators on one database, three trainers behind one address. Each of them is killed during a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from balancer import Balancer
from whole_stack import WholeStack, eventually, running_stack

from devstack.processes import Child, free_port
from devstack.services import SERVICES, Service
from hessian.chain.events import ModelClosed, RoundFailed, RoundSettled
from hessian.errors import Unavailable
from hessian.identifiers import ModelId, RoundId

TRAINER, COORDINATOR = (next(service for service in SERVICES if service.name == name) for name in ("trainer", "coordinator"))


@dataclass
class Grown:
    """The trainers stand behind `balancer`; the stack's own processes of both services have names of their own, like the copies."""

    whole: WholeStack
    balancer: Balancer

    def start(self, name: str, service: Service) -> None:
        """One more process of a service, configured like the first but for its port."""
        stack, port = self.whole.stack, free_port()
        environment = {**stack.environment(service), "HESSIAN_PORT": str(port)}
        child = Child(name, [sys.executable, "-m", service.package], stack.logs / f"{name}.log", environment)
        child.start()
        stack.ports[name], stack.services[name] = port, child

    def begun(self, kind: str, round_id: RoundId) -> None:
        """Wait until some coordinator has begun a job of a kind for a round; one that is just starting says nothing."""

        def jobs() -> list[dict[str, Any]]:
            try:
                return list(self.whole.coordinator.get("/v1/jobs", round_id=round_id)["items"])
            except Unavailable:
                return []

        eventually(jobs, lambda found: any(job["kind"] == kind and job["state"] != "planned" for job in found))

    def kill(self, name: str) -> None:
        """SIGKILL, and the process is started anew, without waiting for it."""
        child = self.whole.stack.services[name]
        assert child.process is not None
        child.process.kill()
        child.process.wait()
        child.start()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Grown]:
    address = free_port()
    settings = {"trainer_url": f"http://127.0.0.1:{address}", "job_processes": "1"}
    with Balancer(address) as balancer, running_stack(tmp_path_factory.mktemp("grown") / "stack", settings) as whole:
        stack, copied = whole.stack, Grown(whole, balancer)
        for name in ("trainer-2", "trainer-3"):
            copied.start(name, TRAINER)
        copied.start("coordinator-2", COORDINATOR)
        for name in ("trainer", "trainer-2", "trainer-3", "coordinator-2"):
            eventually(partial(stack.is_ready, name), bool)
        balancer.taken |= {stack.ports[name]: 0 for name in ("trainer", "trainer-2", "trainer-3")}
        yield copied


def test_run__each_coordinator_and_trainer_is_killed_once__every_round_settles_and_nothing_is_lost(grown: Grown) -> None:
    whole = grown.whole
    owners = [whole.owner(name, rows, seed=rows) for name, rows in (("first", 200), ("second", 190))]
    model = whole.open_model(cohort_size=2, max_rounds=2)
    model_id = ModelId(model["model_id"])
    grown.kill("trainer")
    for owner in owners:
        owner.enrol(model_id)
    victims = [("trainer-2", "coordinator"), ("trainer-3", "coordinator-2")]
    for number, names in enumerate(victims, start=1):
        grown.begun("contribute", whole.opened(model_id, number))
        for name in names:
            grown.kill(name)
        whole.event(RoundSettled, model_id, number)

    settled = whole.events(RoundSettled, model_id)
    assert [event.new_error < model["initial_error"] for event in settled] == [True] * 2
    assert whole.events(RoundFailed, model_id) == []
    whole.event(ModelClosed, model_id, final=True)
    for owner in owners:
        whole.enrolled(owner, "closed")
    eventually(partial(whole.stack.is_ready, "coordinator"), bool)
    eventually(lambda: {job["state"] for job in whole.coordinator.all("/v1/jobs")}, lambda states: states <= {"done", "foreign"})
    calls = whole.calls()
    assert (calls["submitGradient"], calls["unlock"], calls["reportRound"], calls["openRound"]) == (4, 4, 2, 2)
    assert sum(taken > 0 for taken in grown.balancer.taken.values()) >= 2
    whole.require_conserved(model_id)
