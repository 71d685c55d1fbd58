"""Stacks in containers: Compose projects of this repository's files, and the one that the demo runs on.

A project sees no variable of the operator's shell or `.env` that starts with HESSIAN_: what it is told is what its caller says.
"""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.anvil import Anvil
from devstack.contracts import Deployment, fixed_address
from devstack.processes import ProcessFailed
from devstack.services import SERVICES
from devstack.toolchain import ROOT
from hessian.identifiers import BlockNumber

PORT = 8000
RPC_PORT = 8545
SECRETS = "/run/secrets"
ISOLATED = "docker-compose.isolated.yml"
_FREE_PORTS = {f"HESSIAN_{name}_PORT": "0" for name in ("LENDER", "OWNER", "COORDINATOR", "RPC")}
_DOCKER_SOCKET = Path("/var/run/docker.sock")
_DEMO_PROJECT = "hessian-demo"
_LOOK_SECONDS = 5.0
_CAT = """
import base64, sys
from urllib.request import Request, urlopen
print(base64.b64encode(urlopen(Request(sys.argv[1], method="POST"), timeout=30).read()).decode())
"""


class ComposeFailed(ProcessFailed):
    """Docker Compose did not do what it was asked."""


@dataclass(frozen=True)
class Project:
    """One Compose project of a shape's file, and ISOLATED beside it or not.

    `variables` beside the published ports, which are free ones unless it says otherwise.
    """

    name: str
    file: str = "docker-compose.yml"
    variables: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False

    def compose(self, *arguments: str) -> str:
        """Run one command of Compose; its standard output. Raises ComposeFailed with the end of what it said."""
        files = [part for name in self._files() for part in ("--file", str(ROOT / name))]
        return _run(
            ["docker", "compose", "--project-name", self.name, "--env-file", os.devnull, *files, *arguments],
            self._environment(),
        )

    def up(self, *services: str) -> None:
        """Bring these services (none: all) up, from images that exist, and wait until they are healthy."""
        try:
            self.compose("up", "--detach", "--wait", "--quiet-pull", "--no-build", *services)
        except ComposeFailed as error:
            raise ComposeFailed(f"{error.sentence}\nthe containers' last words:\n{self.compose('logs', '--tail', '4')}") from error

    def address(self, service: str, port: int = PORT) -> str:
        """Where a published port answers on this machine."""
        return f"http://{self.compose('port', service, str(port)).strip()}"

    def secret(self, service: str, name: str) -> str:
        """One of a running service's own secrets."""
        return self.compose("exec", "--no-TTY", service, "cat", f"{SECRETS}/{name}")

    def inside(self, service: str, program: str, *arguments: str) -> str:
        """Run a Python program in a running service's container; what it printed."""
        return self.compose("exec", "--no-TTY", service, "python", "-c", program, *arguments)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def erase(self) -> None:
        """Stop it and forget its volumes."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "30")

    def _files(self) -> list[str]:
        return [self.file, ISOLATED] if self.isolated else [self.file]

    def _environment(self) -> dict[str, str]:
        theirs = {name: value for name, value in os.environ.items() if not name.startswith(("HESSIAN_", "COMPOSE_"))}
        group = {"HESSIAN_DOCKER_GROUP": str(_DOCKER_SOCKET.stat().st_gid)} if self.isolated else {}
        return theirs | _FREE_PORTS | group | dict(self.variables)


def docker(*arguments: str) -> str:
    """Run one command of Docker itself. Raises ComposeFailed."""
    return _run(["docker", *arguments], dict(os.environ))


def complaint() -> str | None:
    """Why no stack can be composed on this machine; None when one can."""
    try:
        docker("info", "--format", "{{.ServerVersion}}")
        docker("compose", "version", "--short")
    except ComposeFailed as error:
        return error.sentence.splitlines()[0]
    return None


class ComposedStack:
    """The all-in-one shape for one run: a project of its own on free ports, forgotten at the end; its logs stay in `directory`.

    `isolated`: every job of the trainer in a container of its own.
    """

    def __init__(self, directory: Path, *, isolated: bool = False, variables: Mapping[str, str] | None = None) -> None:
        """Nothing is started yet."""
        self.directory = directory.absolute()
        self.logs = self.directory / "logs"
        self.project = Project(_DEMO_PROJECT, variables=dict(variables or {}), isolated=isolated)
        self.anvil = Anvil(self.logs / "compose.log")
        self.repository = Deployment(fixed_address(0), BlockNumber(0))
        self._closing = ExitStack()
        self._urls: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._looked_at = 0.0

    def __enter__(self) -> Self:
        """Only a stack that is entered is sure to be stopped."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Keep what the containers said, then forget them and their volumes."""
        self._closing.close()
        if self.logs.exists():
            (self.logs / "compose.log").write_text(self.project.compose("logs", "--no-color", "--timestamps"), encoding="utf-8")
            self.project.erase()

    def start(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Build, bring up, and return when every service is healthy. Raises ComposeFailed."""
        if reason := complaint():
            raise ComposeFailed(f"this needs a Docker daemon and Compose 2: {reason}")
        self.logs.mkdir(parents=True, exist_ok=True)
        self.project.erase()  # of a run that was killed
        tell("building the images (the first time some minutes, then seconds)")
        self.project.compose("build", "--quiet")
        tell("bringing up the containers")
        self.project.up()
        self._urls = {service.name: self.project.address(service.name) for service in SERVICES if service.name != "trainer"}
        self._tokens = {role: self.project.secret("lender-api", f"{role}.token") for role in ("admin", "coordinator")}
        self.anvil.port = int(self.project.address("chain", RPC_PORT).rpartition(":")[2])
        self._closing.enter_context(self.anvil.attached())

    def url(self, name: str) -> str:
        """Where a service answers on this machine."""
        return self._urls[name]

    def token(self, role: str) -> str:
        """A token of this node."""
        return self._tokens[role]

    def content(self, cid: str) -> bytes:
        """From Kubo, asked from inside: its RPC is not published."""
        return base64.b64decode(self.project.inside("coordinator", _CAT, f"http://ipfs:5001/api/v0/cat?arg={cid}"))

    def require_alive(self) -> None:
        """Raises ComposeFailed for a service that does not run. Looks every few seconds: it costs the daemon a question."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        running = self.project.compose("ps", "--services", "--status", "running").split()
        if stopped := [service.name for service in SERVICES if service.name not in running]:
            raise ComposeFailed(f"{stopped[0]} has stopped:\n{self.project.compose('logs', '--tail', '10', stopped[0])}")

    def discard(self) -> None:
        """Nothing is left to discard after the containers and volumes are gone."""


def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    try:
        result = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    except OSError as error:
        raise ComposeFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    if result.returncode != 0:
        raise ComposeFailed(f"{' '.join(command[:2])} failed: {chr(10).join(result.stderr.strip().splitlines()[-8:])}")
    return result.stdout
