"""Fixtures that several kinds of tests share: the real neighbours, once per worker, and the rule that a unit test opens no socket.

postgres_server       the embedded Postgres                        new_database(template)   a URL with password, dropped at the end
database_url          an empty database for this test              module_database_url      one for the whole file
database_settings     the same as a service sees it: URL without password, password in a file
anvil                 a chain with blocks every 0.2 s              fresh_anvil              for this test; mines transactions at once
repository_contract   ModelRepository on `anvil`                   fresh_repository         the same on `fresh_anvil`
serving_contract      ModelDeployment for `repository_contract`    fresh_serving            the same for `fresh_repository`
funded_account()      a new wallet with 100 ether on `anvil`       block_store              URL of the embedded block store
"""

from __future__ import annotations

import fcntl
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from devstack.anvil import Anvil
from devstack.block_store import block_store_child
from devstack.contracts import Deployment, deploy_repository, deploy_serving
from devstack.postgres import SUPERUSER, Postgres
from devstack.processes import answers, free_port, wait_until
from devstack.toolchain import CONTRACTS, build
from hessian.chain.encoding import CONTRACTS as CONTRACT_NAMES
from hessian.settings import DatabaseSettings

MINIMUM_WINDOW = 2
UNIT_TESTS = Path(__file__).parent / "unit"
NEIGHBOURS = {"postgres_server", "new_database", "anvil", "fresh_anvil", "block_store"}

NewDatabase = Callable[..., str]


class SocketOpened(AssertionError):
    """A unit test opened a socket: move it to tests/integration, or test the part that does no I/O."""


class _Guard:
    """Hears of every socket this interpreter makes; an audit hook cannot be removed, so it is switched."""

    def __init__(self) -> None:
        self.is_on = False
        self.opened: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event in {"socket.__new__", "socket.getaddrinfo"}:
            if event == "socket.__new__" and arguments[1] not in {socket.AF_INET, socket.AF_INET6}:
                return  # asyncio's own socketpair is how a loop wakes itself
            self.opened.append(event)
            raise SocketOpened(SocketOpened.__doc__)


_guard = _Guard()


@pytest.fixture(autouse=True)
def _no_socket_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[_Guard]:
    if UNIT_TESTS not in request.path.parents:
        yield _guard
        return
    if used := NEIGHBOURS & set(request.fixturenames):
        raise SocketOpened(f"a unit test uses {', '.join(sorted(used))}")
    _guard.is_on, _guard.opened = True, []
    try:
        yield _guard
    finally:
        _guard.is_on = False
    if _guard.opened:  # even where the code under test swallowed the error
        raise SocketOpened(SocketOpened.__doc__)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this worker's neighbours write."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"), logs / "postgres.log", durable=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.delete()


@pytest.fixture(scope="session")
def new_database(postgres_server: Postgres) -> NewDatabase:
    """`new_database()` makes an empty one; `new_database(template=name)` copies one nobody is connected to (migrate once, copy often)."""

    def make(template: str = "template1", name: str | None = None) -> str:
        name = name or f"test_{secrets.token_hex(6)}"
        postgres_server.create_database(name, template=template)
        return postgres_server.url(name, SUPERUSER, postgres_server.password)

    return make


@pytest.fixture
def database_url(postgres_server: Postgres, new_database: NewDatabase) -> Iterator[str]:
    url = new_database()
    yield url
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.fixture(scope="module")
def module_database_url(postgres_server: Postgres, new_database: NewDatabase) -> Iterator[str]:
    url = new_database()
    yield url
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def database_settings(postgres_server: Postgres, database_url: str, tmp_path: Path) -> DatabaseSettings:
    file = tmp_path / "database.password"
    file.touch(mode=0o600)
    file.write_text(postgres_server.password, encoding="utf-8")
    return DatabaseSettings(database_url=postgres_server.url(database_url.rpartition("/")[2]), database_password_file=file)


@pytest.fixture(scope="session")
def anvil(logs: Path) -> Iterator[Anvil]:
    node = Anvil(logs / "anvil.log", block_time=0.2)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def fresh_anvil(tmp_path: Path) -> Iterator[Anvil]:
    node = Anvil(tmp_path / "anvil.log", block_time=0)
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="session")
def built_contracts() -> Path:
    """`contracts/out`, made if it is not there; one worker builds, the others wait."""
    (CONTRACTS / "out").mkdir(exist_ok=True)
    with (CONTRACTS / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((CONTRACTS / "out" / f"{name}.sol").exists() for name in CONTRACT_NAMES):
            build()
    return CONTRACTS / "out"


@pytest.fixture(scope="session")
def repository_contract(anvil: Anvil, built_contracts: Path) -> Deployment:
    return deploy_repository(anvil, MINIMUM_WINDOW)


@pytest.fixture(scope="session")
def serving_contract(anvil: Anvil, repository_contract: Deployment) -> Deployment:
    return deploy_serving(anvil, repository_contract)


@pytest.fixture
def fresh_serving(fresh_anvil: Anvil, fresh_repository: Deployment) -> Deployment:
    return deploy_serving(fresh_anvil, fresh_repository)


@pytest.fixture
def fresh_repository(fresh_anvil: Anvil, built_contracts: Path) -> Deployment:
    return deploy_repository(fresh_anvil, MINIMUM_WINDOW)


@pytest.fixture(scope="session")
def funded_account(anvil: Anvil) -> Callable[[], LocalAccount]:
    return anvil.new_account


@pytest.fixture(scope="session")
def block_store(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> Iterator[str]:
    port = free_port()
    child = block_store_child(tmp_path_factory.mktemp("blocks"), port, logs / "block-store.log")
    child.start()
    wait_until(lambda: answers("127.0.0.1", port), child, seconds=30.0)
    yield f"http://127.0.0.1:{port}"
    child.stop()
