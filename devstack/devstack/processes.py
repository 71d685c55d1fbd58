"""Child processes that never outlive their parent, write to a log file, and say why they ended.

A child gets a session of its own (Ctrl-C in the terminal reaches the parent only, which then stops the children in order) and, on Linux, a
signal from the kernel when its parent dies without having stopped it: no orphan, even after `kill -9`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hessian.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_FIRST_PORT, _PORTS = 15_000, 17_000
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessFailed(Unavailable):
    """A process of the stack did not start, or ended by itself."""


def die_with_parent(parent: int, deadly: signal.Signals) -> Callable[[], None] | None:
    """What a new child runs before its program: ask the kernel for `deadly` at the death of `parent`. Linux only."""
    libc = _LIBC
    if libc is None:
        return None

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(deadly))
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


@dataclass
class Child:
    """One process: what to run, where its output goes, and how it is stopped.

    Start it from a thread that lives as long as the process (the main one): the kernel counts the starting *thread* as the parent.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    user: pwd.struct_passwd | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it. Raises ProcessFailed when the program cannot be executed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        identity = {} if self.user is None else {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        with self.log.open("ab") as output:
            try:
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if self.environment is None else dict(self.environment),
                    cwd=self.directory,
                    start_new_session=True,
                    preexec_fn=die_with_parent(os.getpid(), self.stop_signal),
                    **identity,  # type: ignore[call-overload]  # three keywords of one optional group
                )
            except OSError as error:
                raise ProcessFailed(f"{self.name} cannot be started: {error.strerror} ({self.command[0]})") from error

    @property
    def pid(self) -> int | None:
        """The process id while it has been started."""
        return None if self.process is None else self.process.pid

    @property
    def is_alive(self) -> bool:
        """Started and not ended yet."""
        return self.process is not None and self.process.poll() is None

    def require_alive(self) -> None:
        """Raises ProcessFailed with the end of its log when it is not running."""
        if self.process is None:
            raise ProcessFailed(f"{self.name} has not been started")
        if (code := self.process.poll()) is not None:
            ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise ProcessFailed(f"{self.name} ended ({ending}); the end of {self.log}:\n{tail(self.log)}")

    def ask_to_stop(self) -> None:
        """Send the stop signal to the process alone; it stops its own helpers."""
        if self.process is not None and self.is_alive:
            self.process.send_signal(self.stop_signal)

    def stop(self, grace: float = 10.0) -> None:
        """Ask, wait, then kill whatever is left of its process group."""
        if self.process is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty: nothing is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def stop_all(children: Sequence[Child], grace: float = 10.0) -> None:
    """Ask all of them at once, wait for each, kill what remains."""
    for child in children:
        child.ask_to_stop()
    until = time.monotonic() + grace
    for child in children:
        child.stop(max(0.1, until - time.monotonic()))


def wait_until(ready: Callable[[], bool], child: Child, *, seconds: float, every: float = 0.01) -> None:
    """Poll `ready` until it is true. Raises ProcessFailed when the child ends first or time runs out."""
    until = time.monotonic() + seconds
    while not ready():
        child.require_alive()
        if time.monotonic() > until:
            raise ProcessFailed(f"{child.name} was not ready after {seconds:g} s; the end of {child.log}:\n{tail(child.log)}")
        time.sleep(every)


def answers(host: str, port: int) -> bool:
    """Whether somebody accepts TCP connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def free_port(preferred: int = 0, host: str = "127.0.0.1") -> int:
    """A port nobody listens on; the preferred one when it is free.

    Drawn below the range from which systems take the near end of outgoing connections: nobody gets it by chance before it is used.
    """
    candidates = [preferred] if preferred else []
    candidates += [_FIRST_PORT + secrets.randbelow(_PORTS) for _ in range(100)]
    for port in candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return port
    raise ProcessFailed("no free port was found on this machine")


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log file."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return "(no log)"
