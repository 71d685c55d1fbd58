"""Throw-away containers through Docker's SDK: one image, one command, one set of options.

No network, no capability, no new privilege, Docker's own seccomp profile (and the job's narrower list inside), a read-only root, no IPC, a
user without a name, a bounded tmpfs, limits for memory, processes, processor and files. Output is not logged by the daemon: it would leave
sums on the host's disk. https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.types import LogConfig, Ulimit
from requests.exceptions import RequestException

from hessian.errors import Unavailable
from trainer.isolation.worker import ENVIRONMENT, PROGRAM, JobLimits, arguments_of

LABEL = "hessian.job"
TMPFS_BYTES = 16 << 20
OVERHEAD_BYTES = 64 << 20
"""What a container's memory limit leaves beside the job's own address space."""

_NOBODY = "65534:65534"
_PROCESSES = 8
_ONE_PROCESSOR = 10**9
_WAIT_SECONDS = 30.0
_FAILURES = (DockerException, RequestException, OSError)


class DockerUnavailable(Unavailable):
    """Docker does not do what the launcher needs."""


@dataclass(frozen=True)
class Container:
    """A started container: its id, and the connection to its standard streams (Docker's own framing on the way out)."""

    identity: str
    streams: socket.socket


class Docker:
    """The daemon, as far as this launcher uses it. Every call blocks: run it in a thread."""

    def __init__(self, image: str, limits: JobLimits, *, owner: str, program: Sequence[str] = PROGRAM) -> None:
        """`owner` marks this launcher's containers: what an earlier life left behind is found by it."""
        self._image = image
        self._limits = limits
        self._owner = owner
        self._program = tuple(program)
        try:
            self._client = docker.from_env()
        except _FAILURES as error:
            raise DockerUnavailable(f"Docker does not answer: {error}") from error

    def check(self) -> None:
        """Raises DockerUnavailable unless the daemon answers, filters system calls and has the image."""
        try:
            options = self._client.info().get("SecurityOptions") or []
            self._client.images.get(self._image)
        except NotFound as error:
            raise DockerUnavailable(f"the image {self._image} is not here: build it first") from error
        except _FAILURES as error:
            raise DockerUnavailable(f"Docker does not answer: {error}") from error
        if not any("seccomp" in str(option) for option in options):
            raise DockerUnavailable("this Docker daemon filters no system calls (seccomp)")

    def start(self) -> Container:
        """A fresh container that waits for its one job. Raises DockerUnavailable; leaves nothing behind then."""
        api = self._client.api
        try:
            identity = str(api.create_container(**self._options())["Id"])
        except _FAILURES as error:
            raise DockerUnavailable(f"no container could be made: {_words(error)}") from error
        try:
            attached = api.attach_socket(identity, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            streams = attached._sock.dup()
            streams.setblocking(False)
            for layer in (attached._sock, attached):  # or the connection would stay open until the SDK's own objects are collected
                layer.close()
            api.start(identity)
        except _FAILURES as error:
            self.remove(identity)
            raise DockerUnavailable(f"no container could be started: {_words(error)}") from error
        return Container(identity, streams)

    def exit_code(self, identity: str) -> int:
        """Of a container whose output has ended. Raises DockerUnavailable."""
        try:
            return int(self._client.api.wait(identity, timeout=_WAIT_SECONDS)["StatusCode"])
        except _FAILURES as error:
            raise DockerUnavailable("Docker does not tell how a job ended") from error

    def remove(self, identity: str) -> None:
        """Kill it and forget it. Raises DockerUnavailable."""
        try:
            self._client.api.remove_container(identity, force=True, v=True)
        except NotFound:
            return
        except _FAILURES as error:
            raise DockerUnavailable(f"a container could not be removed: {_words(error)}") from error

    def sweep(self) -> int:
        """Remove what an earlier life of this launcher left behind; how many. Raises DockerUnavailable."""
        try:
            left = self._client.api.containers(all=True, quiet=True, filters={"label": f"{LABEL}={self._owner}"})
        except _FAILURES as error:
            raise DockerUnavailable(f"Docker does not answer: {_words(error)}") from error
        for container in left:
            self.remove(container["Id"])
        return len(left)

    def _options(self) -> dict[str, Any]:
        memory = self._limits.memory_bytes + OVERHEAD_BYTES
        host = self._client.api.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            ipc_mode="none",
            pids_limit=_PROCESSES,
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=_ONE_PROCESSOR,
            ulimits=[Ulimit(name=name, soft=most, hard=most) for name, most in (("nofile", 64), ("core", 0), ("fsize", 0))],
            tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={TMPFS_BYTES},nr_inodes=1024"},  # noqa: S108 - the container's own
            log_config=LogConfig(type="none"),
        )
        return {
            "image": self._image,
            "entrypoint": ["python", *self._program, *arguments_of(self._limits, 0)],
            "command": [],
            "user": _NOBODY,
            "hostname": "job",
            "working_dir": "/",
            "environment": dict(ENVIRONMENT),
            "labels": {LABEL: self._owner},
            "stdin_open": True,
            "network_disabled": True,
            "healthcheck": {"test": ["NONE"]},
            "host_config": host,
        }


def _words(error: Exception) -> str:
    return str(error.explanation) if isinstance(error, APIError) and error.explanation else str(error)
