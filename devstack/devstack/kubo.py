"""A real Kubo daemon on loopback that talks to nobody, where its binary is present: `make kubo`, or `ipfs` on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from devstack.processes import Child, ProcessFailed, answers, free_port, wait_until
from devstack.toolchain import ROOT

_START_SECONDS = 60.0


def kubo_binary() -> Path | None:
    """The one that was built here, else the system's; None when there is none."""
    built = ROOT / "build" / "kubo" / "ipfs"
    found = str(built) if built.exists() else shutil.which("ipfs")
    return None if found is None else Path(found)


class Kubo:
    """One repository and its daemon. The RPC has every right over the node, so it listens on loopback alone; there is no gateway."""

    def __init__(self, binary: Path, directory: Path, log: Path) -> None:
        """Nothing is started yet."""
        self._binary = binary
        self._port = free_port()
        self._environment = {"PATH": os.defpath, "HOME": str(directory), "IPFS_PATH": str(directory), "IPFS_TELEMETRY": "off"}
        self._directory = directory
        self.child = Child("kubo", [str(binary), "daemon", "--offline"], log, self._environment)

    @property
    def url(self) -> str:
        """Where its RPC answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Make the repository if there is none, and start the daemon. Raises ProcessFailed."""
        if not (self._directory / "config").exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            self.run("init", "--profile=test")
            for name, value in (
                ("Addresses.API", f'"/ip4/127.0.0.1/tcp/{self._port}"'),
                ("Addresses.Gateway", "[]"),
                ("Addresses.Swarm", "[]"),
                ("Provide.Enabled", "false"),
            ):
                self.run("config", "--json", name, value)
        self.child.start()
        wait_until(lambda: answers("127.0.0.1", self._port), self.child, seconds=_START_SECONDS)

    def stop(self) -> None:
        """Stop the daemon; the repository stays."""
        self.child.stop()

    def collect_garbage(self) -> None:
        """Delete every block that no pin keeps. Raises ProcessFailed."""
        self.run("repo", "gc", "--quiet")

    def run(self, *arguments: str) -> str:
        """What the command line tool prints. Raises ProcessFailed with what it complains about."""
        ended = subprocess.run(
            [str(self._binary), *arguments], env=self._environment, cwd=self._directory, capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            raise ProcessFailed(f"ipfs {' '.join(arguments)} failed: {ended.stderr.strip()}")
        return ended.stdout
