"""Every service, started with one thing wrong: it ends with one plain sentence and a code that is not zero, and makes nothing up."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.migration import migrate as migrate_coordinator
from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.postgres import Postgres
from devstack.processes import Child, answers, free_port, wait_until
from hessian.postgres.engine import database_url
from hessian.settings import DatabaseSettings
from lender_api.migration import migrate as migrate_lender
from owner_api.migration import migrate as migrate_owner

MIGRATIONS = {"lender_api": migrate_lender, "owner_api": migrate_owner, "coordinator": migrate_coordinator}
WITH_CHAIN = tuple(MIGRATIONS)
EVERY = (*WITH_CHAIN, "trainer")

Environment = dict[str, str]


@dataclass(frozen=True)
class Ground:
    """What the services stand on, in order: every test breaks one thing of it in an environment of its own."""

    environments: dict[str, Environment]
    directory: Path

    def of(self, package: str, **changes: str) -> Environment:
        return self.environments[package] | {f"HESSIAN_{name.upper()}": value for name, value in changes.items()}


@pytest.fixture(scope="module")
def ground(
    postgres_server: Postgres, module_database_url: str, anvil: Anvil, repository_contract: Deployment,
    serving_contract: Deployment, block_store: str, tmp_path_factory: pytest.TempPathFactory,
) -> Ground:  # fmt: skip
    directory, database = tmp_path_factory.mktemp("ground"), module_database_url.rpartition("/")[2]
    names = ("admin.token", "coordinator.token", "trainer.token", "passphrase")
    files = {name: secret_file(directory / name) for name in names}
    shared = {
        "PATH": os.environ["PATH"],
        "HESSIAN_PORT": str(free_port()),
        "HESSIAN_RPC_URL": anvil.url,
        "HESSIAN_CHAIN_ID": str(anvil.chain_id),
        "HESSIAN_REPOSITORY_ADDRESS": repository_contract.address,
        "HESSIAN_DEPLOYMENT_ADDRESS": serving_contract.address,
        "HESSIAN_IPFS_URL": block_store,
        "HESSIAN_DATA_DIRECTORY": str(directory / "data"),
        "HESSIAN_OWNER_URL": "http://127.0.0.1:1",
        "HESSIAN_TRAINER_URL": "http://127.0.0.1:1",
        "HESSIAN_JOB_PROCESSES": "1",
        "HESSIAN_PASSPHRASE_FILE": files["passphrase"],
        **{f"HESSIAN_{role.upper()}_TOKEN_FILE": files[f"{role}.token"] for role in ("admin", "coordinator", "trainer")},
    }
    environments = {"trainer": shared}
    for package, migrate in MIGRATIONS.items():
        role = f"{package}_{secrets.token_hex(4)}"
        password = secret_file(directory / f"{role}.password")
        postgres_server.give_schema(database, role, Path(password).read_text(encoding="utf-8"))
        own = DatabaseSettings(database_url=postgres_server.url(database, role), database_password_file=Path(password))
        migrate(database_url(own))
        environments[package] = shared | {"HESSIAN_DATABASE_URL": own.database_url, "HESSIAN_DATABASE_PASSWORD_FILE": password}
    return Ground(environments, directory)


def secret_file(path: Path) -> str:
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return str(path)


def ends(package: str, environment: Environment, *arguments: str) -> tuple[int, str]:
    """Exit code and the last words of a service that cannot start; what it logged while it waited is not its last word."""
    command = [sys.executable, "-m", package, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("package", EVERY)
def test_start__a_secret_is_missing__names_the_file_and_makes_none(ground: Ground, package: str) -> None:
    gone = ground.directory / "gone.token"
    code, said = ends(package, ground.of(package, coordinator_token_file=str(gone)))
    assert (code, said) == (1, f"{package.replace('_', '-')} stops: the secret file {gone} cannot be read: No such file or directory")
    assert not gone.exists()


@pytest.mark.parametrize("package", EVERY)
def test_start__the_port_is_in_use__says_which(ground: Ground, package: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = ends(package, ground.of(package, port=str(port)))
    assert (code, f"HESSIAN_PORT {port} cannot be listened on: Address already in use" in said) == (1, True), said


@pytest.mark.parametrize("package", WITH_CHAIN)
def test_start__the_node_serves_another_chain__stops_at_once(ground: Ground, package: str) -> None:
    code, said = ends(package, ground.of(package, chain_id="5"))
    assert (code, said.partition(" stops: ")[2]) == (1, "the Ethereum node serves chain 31337, the settings say 5")


@pytest.mark.parametrize(
    ("package", "variable", "value", "says"),
    [
        ("coordinator", "rpc_url", "http://127.0.0.1:1", "The Ethereum node cannot be reached."),
        ("lender_api", "rpc_url", "http://127.0.0.1:1", "The Ethereum node cannot be reached."),
        ("owner_api", "ipfs_url", "http://127.0.0.1:1", "The IPFS node does not answer"),
        ("lender_api", "database_url", "postgresql+psycopg://hessian@127.0.0.1:1/hessian", "Postgres does not answer."),
    ],
)
def test_start__a_neighbour_does_not_answer__waits_as_long_as_told_and_stops(
    ground: Ground, package: str, variable: str, value: str, says: str
) -> None:
    code, said = ends(package, ground.of(package, start_seconds="1", **{variable: value}))
    assert (code, says in said) == (1, True), said


def test_start__another_passphrase_than_the_keys_were_made_with__stops_and_changes_nothing(
    ground: Ground, founded: Callable[[str], None]
) -> None:
    package = "owner_api"  # lender-api's: test_lender_process.py
    founded(package)
    wrong = secret_file(ground.directory / f"{package}.wrong")
    code, said = ends(package, ground.of(package, passphrase_file=wrong))
    assert (code, "the passphrase in HESSIAN_PASSPHRASE_FILE does not open the keys" in said) == (1, True), said
    assert Path(wrong).read_text(encoding="utf-8") not in said
    founded(package)  # the right one still opens them


@pytest.fixture
def founded(ground: Ground, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Start a service until it listens, and stop it: its schema has its keys then."""
    started: list[Child] = []

    def found(package: str) -> None:
        port = free_port()
        child = Child(package, [sys.executable, "-m", package], tmp_path / "log", environment=ground.of(package, port=str(port)))
        started.append(child)
        child.start()
        wait_until(lambda: answers("127.0.0.1", port), child, seconds=60.0)
        child.ask_to_stop()
        assert child.process is not None
        assert child.process.wait(30) == 0

    yield found
    for child in started:
        child.stop()


def test_start__the_data_directory_cannot_be_written__owner_api_says_so(ground: Ground) -> None:
    file = ground.directory / "a-file"
    file.touch()
    code, said = ends("owner_api", ground.of("owner_api", data_directory=str(file / "data")))
    assert (code, said) == (1, f"owner-api stops: the data directory {file / 'data'} cannot be made: Not a directory")


@pytest.mark.parametrize(
    ("package", "variable", "value", "says"),
    [
        ("coordinator", "database_url", "nonsense", "HESSIAN_DATABASE_URL is no URL"),
        ("coordinator", "database_url", "postgresql+psycopg://a:word@127.0.0.1/b", "the password lies in a file"),
        ("trainer", "log_level", "LOUD", "HESSIAN_LOG_LEVEL"),
        ("trainer", "port", "", "HESSIAN_PORT"),
        ("owner_api", "rpc_url", "", "HESSIAN_RPC_URL"),
        ("trainer", "host", "not.a.host.invalid", "cannot be listened on"),
        ("owner_api", "policy_allowed_members", "[", "policy_allowed_members"),
        ("owner_api", "policy_allowed_members", '["0x1"]', "HESSIAN_POLICY_ALLOWED_MEMBERS"),
    ],
)
def test_start__a_variable_makes_no_sense__names_it(ground: Ground, package: str, variable: str, value: str, says: str) -> None:
    code, said = ends(package, ground.of(package, **{variable: value}))
    assert (code != 0, says in said, "word@" in said) == (True, True, False), said


def test_start__a_secret_that_others_can_read__says_what_to_do(ground: Ground) -> None:
    open_to_all = ground.directory / "open.token"
    open_to_all.write_text("token", encoding="utf-8")
    open_to_all.chmod(0o644)
    code, said = ends("trainer", ground.of("trainer", trainer_token_file=str(open_to_all)))
    assert (code, "chmod 600" in said) == (1, True), said


def test_start__a_secret_is_no_text__says_so(ground: Ground) -> None:
    binary = ground.directory / "binary.token"
    binary.touch(mode=0o600)
    binary.write_bytes(b"\xff\xfe\x00")
    code, said = ends("trainer", ground.of("trainer", trainer_token_file=str(binary)))
    assert (code, said) == (1, f"trainer stops: the secret file {binary} holds something else than text")


def test_migrate__the_role_is_not_let_in__says_where_to_look(ground: Ground) -> None:
    wrong = secret_file(ground.directory / "wrong.password")
    code, said = ends("coordinator", ground.of("coordinator", database_password_file=wrong), "migrate")
    says = "coordinator stops: Postgres does not let this service in (password authentication failed)"
    assert (code, said.startswith(says)) == (1, True), said
