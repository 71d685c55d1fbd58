"""The whole system on one machine: Postgres, anvil, the block store and the four services, each a process of its own.

One directory is one stack: its secrets, its data, its ports, its logs. Two stacks share nothing, so that the demo never touches the stack
that `make up` keeps running. A service sees only the variables that its own Settings class reads.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from devstack.anvil import Anvil
from devstack.block_store import block_store_child
from devstack.contracts import MINIMUM_WINDOW, Deployment, deploy_repository, deploy_serving
from devstack.postgres import Postgres, write_secret
from devstack.processes import Child, ProcessFailed, answers, free_port, stop_all, wait_until
from devstack.services import SERVICES, Service
from hessian.identifiers import Address, BlockNumber

DATABASE = "hessian"
_START_SECONDS = 90.0


_NODE_TOKENS = ("admin", "coordinator", "trainer")
Told = Callable[[str], None]


class Stack:
    """Start it, use it, stop it.

    `kept` survives restarts and `kill -9`; without, every start begins with nothing. `settings` are values for the services' own variables
    beside those that follow from the stack (`{"minimum_key_bits": "1024"}` in tests).
    """

    def __init__(self, directory: Path, *, kept: bool, block_time: float = 0.5, settings: Mapping[str, str] | None = None) -> None:
        """Nothing is started yet."""
        self.settings = dict(settings or {})
        self.directory = directory.absolute()
        self.kept = kept
        self.logs = self.directory / "logs"
        self.secrets = self.directory / "secrets"
        self.postgres = Postgres(self.directory / "postgres", self.logs / "postgres.log", durable=kept)
        state = self.directory / "chain" / "state.json" if kept else None
        self.anvil = Anvil(self.logs / "anvil.log", block_time=block_time, state=state)
        self.ports: dict[str, int] = {}
        self.repository: Deployment | None = None
        self.serving: Deployment | None = None
        self.block_store: Child | None = None
        self.services: dict[str, Child] = {}
        self._held: IO[str] | None = None

    def __enter__(self) -> Self:
        """Only a stack that is entered is sure to be stopped."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop everything, whatever happened."""
        self.stop()

    def start(self, tell: Told = lambda _: None) -> None:
        """Start everything and return when every service is ready. Raises ProcessFailed."""
        self._lock()
        if not self.kept:
            self.erase()
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.anvil.state is not None:
            self.anvil.state.parent.mkdir(exist_ok=True)
        self._choose_ports()
        self.make_secrets()
        tell("starting Postgres, the Ethereum node and the block store")
        self.start_block_store()
        self.anvil.start()
        self.postgres.start()
        self._deploy()
        self._prepare_database()
        tell("preparing one database schema for each service")
        self._migrate()
        tell("starting lender-api, owner-api, trainer and coordinator")
        for service in SERVICES:
            self.start_service(service)
        for service in SERVICES:
            self.wait_for(service)

    def load(self) -> None:
        """Read where a stack that another process runs answers. Raises ProcessFailed when there is none."""
        known = self._remembered()
        if not known.get("repository") or not known.get("serving"):
            raise ProcessFailed(f"there is no stack in {self.directory}")
        self.ports = dict(known["ports"])
        self.repository, self.serving = _place(known["repository"]), _place(known["serving"])
        self.postgres.port, self.anvil.port = self.ports["postgres"], self.ports["anvil"]

    def stop(self) -> None:
        """Services first, then what they stand on. Ctrl-C cannot interrupt it half-way."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            stop_all(list(self.services.values()), grace=10.0)
            self.services.clear()
            if self.block_store is not None:
                self.block_store.stop()
            self.anvil.stop()
            self.postgres.stop()
            if self._held is not None:
                self._held.close()
                self._held = None
        finally:
            signal.signal(signal.SIGINT, previous)

    def _lock(self) -> None:
        """One stack per directory; the lock ends with this process, however that ends."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        held = self.directory.with_name(f".{self.directory.name}.lock").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.close()
            raise ProcessFailed(f"another stack already runs in {self.directory}") from error
        self._held = held

    def erase(self) -> None:
        """Forget everything a stopped stack has stored."""
        self.postgres.delete()
        shutil.rmtree(self.directory, ignore_errors=True)

    def require_alive(self) -> None:
        """Raises ProcessFailed with the end of its log for the first process that ended by itself."""
        for child in self.children():
            child.require_alive()

    def children(self) -> list[Child]:
        """Everything that should be running."""
        return [child for child in (self.postgres.child, self.anvil.child, self.block_store, *self.services.values()) if child is not None]

    def url(self, name: str) -> str:
        """Where a service, the chain (`anvil`) or the block store answers."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def token(self, role: str) -> str:
        """A token of this node: admin, coordinator or trainer."""
        return (self.secrets / f"{role}.token").read_text(encoding="utf-8")

    def content(self, cid: str) -> bytes:
        """From the block store; unverified."""
        with httpx.Client(base_url=self.url("block-store"), timeout=30.0, trust_env=False) as store:
            return store.post("/api/v0/cat", params={"arg": cid}).content

    def discard(self) -> None:
        """Remove the database cluster of a stopped stack; logs and secrets stay."""
        self.postgres.delete()

    def is_ready(self, name: str) -> bool:
        """Whether `/readyz` says so."""
        try:
            return httpx.get(f"{self.url(name)}/readyz", timeout=5.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def wait_for(self, service: Service) -> None:
        """Return when it is ready. Raises ProcessFailed when it ends first, or takes too long."""
        wait_until(lambda: self.is_ready(service.name), self.services[service.name], seconds=_START_SECONDS, every=0.05)

    def make_secrets(self) -> None:
        """Tokens, passwords and passphrases: random, one file each, made once."""
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        names = [f"{role}.token" for role in _NODE_TOKENS]
        names += [f"{service.schema}.{kind}" for service in SERVICES if service.schema for kind in ("database-password", "passphrase")]
        for name in names:
            if not (self.secrets / name).exists():
                write_secret(self.secrets / name, secrets.token_urlsafe(32))

    def start_block_store(self) -> None:
        """Start the block store and wait until it answers."""
        port = self.ports["block-store"]
        self.block_store = block_store_child(self.directory / "blocks", port, self.logs / "block-store.log")
        self.block_store.start()
        wait_until(lambda: answers("127.0.0.1", port), self.block_store, seconds=30.0)

    def start_service(self, service: Service) -> None:
        """Start one of the four; does not wait."""
        child = Child(service.name, [sys.executable, "-m", service.package], self.logs / f"{service.name}.log", self.environment(service))
        child.start()
        self.services[service.name] = child

    def environment(self, service: Service) -> Mapping[str, str]:
        """What this service is told: the values of its own Settings, and what Python needs to run."""
        values = self._values(service)
        ours = {f"HESSIAN_{name.upper()}": values[name] for name in service.settings.model_fields if name in values}
        return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ} | ours

    @cached_property
    def _shared(self) -> dict[str, str]:
        repository, serving = self.repository, self.serving
        if repository is None or serving is None:
            raise ProcessFailed("the contracts are not deployed yet")
        tokens = {f"{role}_token_file": str(self.secrets / f"{role}.token") for role in _NODE_TOKENS}
        return tokens | {
            "host": "127.0.0.1",
            "rpc_url": self.anvil.url,
            "chain_id": str(self.anvil.chain_id),
            "repository_address": repository.address,
            "repository_block": str(repository.block),
            "deployment_address": serving.address,
            "ipfs_url": self.url("block-store"),
            "lender_url": self.url("lender-api"),
            "owner_url": self.url("owner-api"),
            "trainer_url": self.url("trainer"),
        }

    def _values(self, service: Service) -> dict[str, str]:
        values = self._shared | {"port": str(self.ports[service.name]), "data_directory": str(self.directory / f"{service.name}-data")}
        if service.schema is not None:
            values["database_url"] = self.postgres.url(DATABASE, service.schema)
            values["database_password_file"] = str(self.secrets / f"{service.schema}.database-password")
            values["passphrase_file"] = str(self.secrets / f"{service.schema}.passphrase")
        return values | self.settings

    def _choose_ports(self) -> None:
        wanted = self._remembered().get("ports", {})
        names = ["postgres", "anvil", "block-store", *(service.name for service in SERVICES)]
        self.ports = {name: free_port(wanted.get(name, 0)) for name in names}
        self.postgres.port, self.anvil.port = self.ports["postgres"], self.ports["anvil"]

    def _deploy(self) -> None:
        """What a kept chain has stays; a chain from before there was a serving contract gets one."""
        self.repository, self.serving = self._kept("repository"), self._kept("serving")
        if self.repository is None:
            self.repository, self.serving = deploy_repository(self.anvil, MINIMUM_WINDOW), None
            self._remember()
        if self.serving is None:
            self.serving = deploy_serving(self.anvil, self.repository)
        self._remember()

    def _kept(self, contract: str) -> Deployment | None:
        known = self._remembered().get(contract)
        return _place(known) if known is not None and self.anvil.has_code(known["address"]) else None

    def _prepare_database(self) -> None:
        with self.postgres.connect() as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if not exists:
            self.postgres.create_database(DATABASE)
        for service in SERVICES:
            if service.schema is not None:
                self.postgres.give_schema(DATABASE, service.schema, self._database_password(service.schema))

    def _migrate(self) -> None:
        """What `python -m <service> migrate` does, for all of them in this process: starting Python three times would take longer."""
        for service in SERVICES:
            if service.schema is not None:
                migration = importlib.import_module(f"{service.package}.migration")  # here, for SQLAlchemy takes a second to import
                migration.migrate(self.postgres.url(DATABASE, service.schema, self._database_password(service.schema)))

    def _database_password(self, schema: str) -> str:
        return (self.secrets / f"{schema}.database-password").read_text(encoding="utf-8")

    def _remembered(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.directory / "stack.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def _remember(self) -> None:
        contracts = {"repository": self.repository, "serving": self.serving}
        known = {name: {"address": one.address, "block": one.block} for name, one in contracts.items() if one is not None}
        draft = self.directory / "stack.json.draft"
        draft.write_text(json.dumps({"ports": self.ports, **known}, indent=2), encoding="utf-8")
        draft.replace(self.directory / "stack.json")


def _place(known: Mapping[str, Any]) -> Deployment:
    return Deployment(Address(known["address"]), BlockNumber(known["block"]))
