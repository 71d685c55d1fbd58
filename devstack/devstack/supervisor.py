"""The stack that `make up` keeps running: one detached supervisor that starts a child again when it dies.

The supervisor's own process id lies in `supervisor.json` of the stack's directory. Killed, it takes its children with it (the kernel sees
to that) and the next `up` continues from what is on disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import psutil
import structlog

from devstack.processes import ProcessFailed, tail
from devstack.services import SERVICES
from devstack.stack import Stack

log = structlog.get_logger()
_POLL_SECONDS = 0.2
_START_SECONDS = 180.0
_STOP_SECONDS = 60.0
_LONGEST_PAUSE = 15.0


def supervise(directory: Path) -> None:
    """Run the stack until SIGTERM. The caller is the detached process itself."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _write_status(directory, "starting")
    with Stack(directory, kept=True) as stack:
        stack.start(lambda sentence: log.info("stack", doing=sentence))
        _write_status(directory, "running")
        log.info("stack", doing="running")
        pauses: dict[str, float] = {}
        while not stopping.wait(_POLL_SECONDS):
            for child in stack.children():
                if not child.is_alive and not stopping.is_set():
                    _revive(stack, child.name, pauses)
        log.info("stack", doing="stopping")
    (directory / "supervisor.json").unlink(missing_ok=True)


def _revive(stack: Stack, name: str, pauses: dict[str, float]) -> None:
    """Start one child again; each time later, when it keeps dying."""
    try:
        next(child for child in stack.children() if child.name == name).require_alive()
    except ProcessFailed as error:
        log.warning("child_died", child=name, reason=error.sentence)
    time.sleep(pauses.get(name, 0.0))
    pauses[name] = min(_LONGEST_PAUSE, 2 * pauses.get(name, 0.25))
    try:
        if name == "postgres":
            stack.postgres.start()
        elif name == "anvil":
            stack.anvil.stop()
            stack.anvil.start()
        elif name == "block-store":
            stack.start_block_store()
        else:
            stack.start_service(next(service for service in SERVICES if service.name == name))
    except ProcessFailed as error:
        log.error("child_cannot_start", child=name, reason=error.sentence)
    else:
        log.info("child_started_again", child=name)


def start_detached(directory: Path) -> None:
    """Start a supervisor that outlives this process; return when its stack is ready. Raises ProcessFailed."""
    if supervisor_of(directory) is not None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "supervisor.json").unlink(missing_ok=True)
    file = directory / "supervisor.log"
    with file.open("ab") as output:
        command = [sys.executable, "-m", "devstack", "supervise", "--directory", str(directory)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/")
    until = time.monotonic() + _START_SECONDS
    while status_of(directory) != "running":
        if process.poll() is not None:
            raise ProcessFailed(f"the stack did not start; the end of {file}:\n{tail(file)}")
        if time.monotonic() > until:
            process.terminate()
            raise ProcessFailed(f"the stack was not ready after {_START_SECONDS:g} s; the end of {file}:\n{tail(file)}")
        time.sleep(0.05)
    process.returncode = 0  # it goes on without us: no warning about a child that still runs


def stop_detached(directory: Path) -> bool:
    """Stop the supervisor and with it the stack; whether there was one. Raises ProcessFailed when it does not end."""
    process = supervisor_of(directory)
    if process is None:
        return False
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except psutil.TimeoutExpired as error:
        raise ProcessFailed(f"the supervisor (process {process.pid}) did not end within {_STOP_SECONDS:g} s") from error
    return True


def supervisor_of(directory: Path) -> psutil.Process | None:
    """The living supervisor of a directory. A number that belongs to another process by now is not mistaken for it."""
    try:
        known = json.loads((directory / "supervisor.json").read_text(encoding="utf-8"))
        process = psutil.Process(known["pid"])
        alive = process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - known["started"]) < 1.0
        return process if alive else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def status_of(directory: Path) -> str:
    """`starting`, `running`, or `stopped`."""
    if supervisor_of(directory) is None:
        return "stopped"
    return str(json.loads((directory / "supervisor.json").read_text(encoding="utf-8"))["status"])


def _write_status(directory: Path, status: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    known = {"pid": os.getpid(), "started": psutil.Process().create_time(), "status": status}
    draft = directory / "supervisor.json.draft"
    draft.write_text(json.dumps(known), encoding="utf-8")
    draft.replace(directory / "supervisor.json")
