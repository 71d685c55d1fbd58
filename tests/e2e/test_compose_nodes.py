"""A whole training run in containers: a lender's node and two owners' nodes, each a Compose project with networks of its own.

They share the development chain and Kubo of a fourth project, and nothing else. Skipped where no Docker daemon answers.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from isolations import require_wish
from lender_node import FEATURES, loans
from probe import container_program
from whole_stack import BASE_FEE, BOND, BOUNTY, KEY_BITS, WINDOW, eventually

from devstack.anvil import POCKET_MONEY, Anvil
from devstack.composed import RPC_PORT, ComposeFailed, Project, complaint, docker
from devstack.contracts import Deployment, fixed_address
from devstack.demo.ledger import Ledger
from devstack.demo.parties import DataOwner, Lender, Rest
from hessian.chain.events import ModelClosed, RoundSettled
from hessian.identifiers import BlockNumber, ModelId

pytestmark = pytest.mark.timeout(2_400)  # images are built the first time
PATIENCE = 300.0
ROUNDS = 2
OWNERS = {"ash": 160, "beech": 140}
ISOLATED = "beech"  # this owner's jobs run in a container each
NODE = {
    "HESSIAN_RPC_URL": f"http://chain:{RPC_PORT}",
    "HESSIAN_CHAIN_ID": "31337",
    "HESSIAN_REPOSITORY_ADDRESS": fixed_address(0),
    "HESSIAN_DEPLOYMENT_ADDRESS": fixed_address(1),
    "HESSIAN_IPFS_URL": "http://ipfs:5001",
    "HESSIAN_MINIMUM_KEY_BITS": str(KEY_BITS),
    "HESSIAN_POLICY_MINIMUM_MEMBERS": "2",
    "HESSIAN_POLICY_LARGEST_SHARE_PERCENT": "60",
    "HESSIAN_POLICY_MINIMUM_WINDOW_SECONDS": str(WINDOW),
    "HESSIAN_ENROLLMENT_POLL_SECONDS": "0.5",
    "HESSIAN_KEYSTORE_WORK": "4096",
    "HESSIAN_JOB_PROCESSES": "1",
}
PROBE = """
import json, socket, sys
found = {}
for place in json.loads(sys.argv[1]):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        found[place] = True
    except OSError:
        found[place] = False
print(json.dumps(found))
"""
TMP_BYTES, PROCESSES = 64 << 20, 128  # what docker-compose.common.yml leaves the trainer
FILL = """
import errno, json, pathlib
written, refusal = 0, None
files = [pathlib.Path(f"/tmp/fill-{number}") for number in range(8)]
try:
    for file in files:
        with file.open("wb", buffering=0) as opened:
            for _ in range(32):  # each below what one file may hold
                written += opened.write(bytes(1 << 20))
except OSError as error:
    refusal = errno.errorcode[error.errno]
finally:
    for file in files:
        file.unlink(missing_ok=True)
print(json.dumps([refusal, written]))
"""
FORK = """
import errno, json, os, signal
wait, go = os.pipe()
children, refusal = [], None
try:
    while len(children) < 1000:
        if (child := os.fork()) == 0:
            os.close(go)
            os.read(wait, 1)
            os._exit(0)
        children.append(child)
except OSError as error:
    refusal = errno.errorcode[error.errno]
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
print(json.dumps([refusal, len(children)]))
"""
WRITABLE = """
import json, os
found = []
for place, below, _ in os.walk("/"):
    below[:] = [name for name in below if os.path.join(place, name) not in ("/proc", "/sys")]
    if os.access(place, os.W_OK):
        found.append(place)
print(json.dumps(sorted(found)))
"""


@dataclass
class Nodes:
    """Four projects that run."""

    market: Project
    lender: Project
    owners: dict[str, Project]
    closing: ExitStack
    directory: Path


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    require_wish()
    if reason := complaint():
        pytest.skip(f"no Docker daemon with Compose 2: {reason}")
    mark = f"hessian-test-{secrets.token_hex(3)}"
    market = Project(f"{mark}-market")
    lender = Project(f"{mark}-lender", "docker-compose.lender.yml", NODE)
    owners = {name: Project(f"{mark}-{name}", "docker-compose.owner.yml", NODE, isolated=name == ISOLATED) for name in OWNERS}
    market.compose("build", "--quiet")
    owners[ISOLATED].compose("build", "--quiet", "launcher")
    with ExitStack() as closing:
        closing.callback(market.erase)
        market.up("chain", "ipfs")
        market.compose("run", "--rm", "--no-TTY", "contracts")
        for node in (lender, *owners.values()):
            closing.callback(leave, market, node)
            node.compose("create")
            for service in ("chain", "ipfs"):
                docker("network", "connect", "--alias", service, f"{node.name}_outside", market.container(service))
            node.up()
        yield Nodes(market, lender, owners, closing, tmp_path_factory.mktemp("nodes"))


def leave(market: Project, node: Project) -> None:
    """Forget a node; its network first has to lose its guests."""
    for service in ("chain", "ipfs"):
        docker("network", "disconnect", "--force", f"{node.name}_outside", market.container(service))
    node.erase()


def reached(project: Project, service: str, *places: str) -> dict[str, bool]:
    return dict(json.loads(project.inside(service, PROBE, json.dumps(places))))


def address_in(container: str, network: str) -> str:
    return docker("inspect", "--format", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', container).strip()


def test_training_run__three_nodes_that_share_only_chain_and_ipfs__ends_with_paid_owners(nodes: Nodes) -> None:
    anvil = Anvil(nodes.directory / "anvil.log", port=int(nodes.market.address("chain", RPC_PORT).rpartition(":")[2]))
    nodes.closing.enter_context(anvil.attached())
    ledger = Ledger(anvil, Deployment(fixed_address(0), BlockNumber(0)))
    lender = nodes.closing.enter_context(Lender(nodes.lender.address("lender-api"), nodes.lender.secret("lender-api", "admin.token")))
    anvil.fund(lender.address, POCKET_MONEY)
    model = open_model(lender, anvil, nodes.directory)
    owners = [owner_on(project, name, anvil, nodes) for name, project in nodes.owners.items()]
    for owner in owners:
        eventually(partial(owner.all, "/v1/models"), bool, PATIENCE)
        owner.enrol(ModelId(model["model_id"]))

    def settled() -> list[RoundSettled]:
        ledger.read()
        assert [owner.enrollment() for owner in owners if owner.enrollment()["state"] == "refused"] == []
        return ledger.all(RoundSettled)

    def closed() -> list[ModelClosed]:
        ledger.read()
        return ledger.all(ModelClosed)

    rounds = eventually(settled, lambda found: len(found) == ROUNDS, PATIENCE)
    assert rounds[0].new_error < model["initial_error"]  # two owners of these loans leave little for the second round
    eventually(closed, bool, PATIENCE)
    for owner in owners:
        eventually(owner.enrollment, lambda enrollment: enrollment["state"] == "closed", PATIENCE)
        withdrawal = owner.post("/v1/withdrawals")
        eventually(partial(owner.get, f"/v1/withdrawals/{withdrawal['id']}"), is_final, PATIENCE)
        assert int(owner.get("/v1/earnings")["earned_wei"]) > 0


def is_final(withdrawal: dict[str, Any]) -> bool:
    return bool(withdrawal["state"] == "final")


def open_model(lender: Lender, anvil: Anvil, directory: Path) -> dict[str, Any]:
    rows = directory / "validation.csv"
    rows.write_text(loans(300, seed=1), encoding="utf-8")
    uploaded = lender.upload("/v1/validation-sets", rows, name="loans", label="status", positive="bad")
    clock = int(anvil.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    terms = {
        "bounty_wei": str(BOUNTY), "base_fee_wei": str(BASE_FEE), "member_bond_wei": str(BOND),
        "target_error": 1_000_000, "max_rounds": ROUNDS, "row_cap": 10_000, "split_rule": "by_rows",
        **dict.fromkeys(("submit_window", "accept_window", "unlock_window", "evaluate_window"), WINDOW),
        "training_deadline": clock + 86_400,
    }  # fmt: skip
    wish = {"name": "Loans", "validation_set_id": uploaded["id"], "features": FEATURES, "key_bits": KEY_BITS, "cohort_size": len(OWNERS)}
    identity = lender.post("/v1/models", {**wish, "terms": terms})["id"]

    def read() -> dict[str, Any]:
        found = dict(lender.get(f"/v1/models/{identity}"))
        assert found["state"] != "failed", found["reason"]
        return found

    return eventually(read, lambda found: found["state"] == "open", PATIENCE)


def owner_on(project: Project, name: str, anvil: Anvil, nodes: Nodes) -> DataOwner:
    url = project.address("owner-api")
    with Rest(url, project.secret("owner-api", "admin.token")) as admin:
        owner = nodes.closing.enter_context(DataOwner(url, admin.post("/v1/owners", {"name": name})))
    anvil.fund(owner.address, POCKET_MONEY)
    shard = nodes.directory / f"{name}.csv"
    shard.write_text(loans(OWNERS[name], seed=len(name)), encoding="utf-8")
    owner.upload_shard(shard, "status", "bad")
    return owner


def test_networks__of_the_three_nodes__share_the_chain_and_ipfs_alone(nodes: Nodes) -> None:
    shared = {nodes.market.container("chain"), nodes.market.container("ipfs")}
    for node in (nodes.lender, *nodes.owners.values()):
        listed = json.loads(docker("network", "inspect", f"{node.name}_outside"))[0]["Containers"]
        own = set(node.compose("ps", "--quiet").split())
        assert shared < set(listed) <= own | shared
    ash, beech = nodes.owners.values()
    other = address_in(beech.container("owner-api"), f"{beech.name}_outside")
    places = ("chain:8545", "ipfs:5001", "postgres:5432", f"{other}:8000", "lender-api:8000")
    assert reached(ash, "owner-api", *places) == dict(zip(places, (True, True, True, False, False), strict=True))


def test_trainer__from_inside__reaches_owner_api_and_nobody_else(nodes: Nodes) -> None:
    ash = nodes.owners["ash"]
    coordinator, network = ash.container("coordinator"), f"{ash.name}_dispatch"
    elsewhere = (
        f"{address_in(coordinator, network)}:8000", f"{address_in(coordinator, f'{ash.name}_outside')}:8000",
        f"{address_in(ash.container('postgres'), f'{ash.name}_database')}:5432", "chain:8545", "ipfs:5001", "postgres:5432",
        "169.254.169.254:80", "192.0.2.1:443", "owner-api:9100", f"{address_in(coordinator, network)}:9100",
        f"{address_in(ash.container('owner-api'), f'{ash.name}_outside')}:9100",
    )  # fmt: skip
    assert reached(ash, "trainer", "owner-api:8000", *elsewhere) == {"owner-api:8000": True, **dict.fromkeys(elsewhere, False)}


def test_metrics__of_an_owners_node__are_there_for_who_shares_the_outer_network(nodes: Nodes) -> None:
    ash = nodes.owners["ash"]
    places = ("owner-api.outside:9100", "coordinator.outside:9100", "trainer:9100")
    assert reached(ash, "coordinator", *places) == dict.fromkeys(places, True)


def test_containers__of_every_service__run_without_rights(nodes: Nodes) -> None:
    for node, service in [(nodes.lender, "lender-api"), *((nodes.owners["ash"], name) for name in ("owner-api", "trainer", "coordinator"))]:
        found = json.loads(docker("inspect", node.container(service)))[0]
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001", service
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges:true"]), service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert "size=64m" in host["Tmpfs"]["/tmp"], service
        assert not [mount for mount in found["Mounts"] if mount["Type"] != "volume"], service
        with pytest.raises(ComposeFailed, match="Read-only file system"):
            node.inside(service, "open('/opt/hessian/x', 'w')")


@pytest.mark.parametrize("name", OWNERS)
def test_trainer__tries_to_leave_its_container__gets_nowhere(nodes: Nodes, name: str) -> None:
    attempts = (
        "a mount", "setuid", "a raw socket", "the Docker socket", "changing its own packages", "the kernel's keyring",
        "raising its own limits", "a user namespace",
    )  # fmt: skip
    outcomes = json.loads(nodes.owners[name].inside("trainer", container_program(), *attempts))
    assert set(outcomes) == set(attempts)
    assert {attempt: said for attempt, said in outcomes.items() if not said.startswith("denied: E")} == {}


@pytest.mark.parametrize("name", OWNERS)
def test_trainer__every_directory_of_its_container__is_read_only_but_those_in_memory(nodes: Nodes, name: str) -> None:
    launchers = {"/run/launcher"} if name == ISOLATED else set()
    assert set(json.loads(nodes.owners[name].inside("trainer", WRITABLE))) == {"/tmp", "/dev/shm", "/dev/mqueue"} | launchers


@pytest.mark.parametrize("name", OWNERS)
def test_trainer__fills_its_tmp_and_forks_without_end__meets_its_limits_and_lives(nodes: Nodes, name: str) -> None:
    node = nodes.owners[name]
    refusal, written = json.loads(node.inside("trainer", FILL))
    assert refusal == "ENOSPC"
    assert 0 < written <= TMP_BYTES
    refusal, children = json.loads(node.inside("trainer", FORK))
    assert refusal == "EAGAIN"
    assert 0 < children < PROCESSES
    assert docker("inspect", "--format", "{{.State.Running}} {{.RestartCount}}", node.container("trainer")).split() == ["true", "0"]


def test_jobs__of_the_owner_with_a_launcher__run_in_containers_that_it_alone_may_start(nodes: Nodes) -> None:
    node = nodes.owners[ISOLATED]
    assert '"isolation": "docker"' in node.compose("logs", "--no-log-prefix", "trainer")
    launcher, trainer = (json.loads(docker("inspect", node.container(name)))[0] for name in ("launcher", "trainer"))
    assert launcher["HostConfig"]["NetworkMode"] == "none"
    assert [bool([mount for mount in found["Mounts"] if mount["Type"] == "bind"]) for found in (launcher, trainer)] == [True, False]


def test_trainer_image__imports__know_no_chain_no_database_and_no_ipfs(nodes: Nodes) -> None:
    program = "import importlib.util as u, json; print(json.dumps([name for name in {names} if u.find_spec(name)]))"
    names = ["web3", "eth_account", "sqlalchemy", "psycopg", "alembic", "procrastinate", "aioipfs", "pip", "docker", "opentelemetry.sdk"]
    trainer = nodes.owners["ash"]
    assert json.loads(trainer.inside("trainer", program.replace("{names}", repr([*names, "gmpy2"])))) == ["gmpy2"]
    assert sorted(trainer.inside("trainer", "import os; print(*os.listdir('/run/secrets'))").split()) == [
        "coordinator.token", "trainer.token",
    ]  # fmt: skip


def test_images__of_the_services_that_reach_a_collector__can_send_traces(nodes: Nodes) -> None:
    ash = nodes.owners["ash"]
    for node, service in ((nodes.lender, "lender-api"), (ash, "owner-api"), (ash, "coordinator")):
        assert node.inside(service, "import hessian.tracing.telemetry as it; print(it.exporting.__name__)").strip() == "exporting"


def test_stop__every_service__drains_and_ends_with_zero(nodes: Nodes) -> None:
    """The last test of this file: afterwards nothing runs."""
    for node in (nodes.lender, *nodes.owners.values()):
        node.compose("stop")
        services = node.compose("ps", "--all", "--services").split()
        codes = {service: docker("inspect", "--format", "{{.State.ExitCode}}", node.container(service)).strip() for service in services}
        assert set(codes.values()) == {"0"}, codes
