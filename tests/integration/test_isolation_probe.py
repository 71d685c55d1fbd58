"""A probe job tries everything from inside, on every backend.

What each wall holds by itself is written down in WALLS, line by line; with the job's own system call filter, as jobs really run, nothing of
it succeeds anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import ctypes
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from isolations import BACKENDS, LIMITS, isolated
from probe import ATTEMPTS, decoder_program, worker_program
from small_model import KEY_BITS, manifest

from hessian import uploads
from hessian.confinement import filter as calls
from hessian.identifiers import Timestamp
from hessian.learning.formats import MAGIC
from hessian.testing import valid_terms
from trainer.job import Job
from trainer.pool import JobPool

pytestmark = pytest.mark.skipif(not calls.is_known(), reason="no system call table for this machine")

YES, NO, ROOT, HOST = "allowed", "denied", "allowed to root", "as the host itself"

WALLS: dict[str, tuple[str, str, str]] = {  # the wall alone, without the job's filter:   process, bwrap, docker
    "TCP over IPv4": (YES, NO, NO),
    "TCP over IPv6": (HOST, NO, NO),
    "a Unix socket": (YES, NO, NO),
    "an abstract Unix socket": (YES, NO, NO),
    "a DNS question": (YES, NO, NO),
    "the metadata address": (HOST, NO, NO),
    "a raw socket": (ROOT, NO, NO),
    "the Docker socket": (HOST, NO, NO),
    "the files of another process in /proc": (YES, NO, NO),
    "a signal to another process": (YES, NO, NO),
    "ptrace": (HOST, NO, NO),
    "another process's memory": (HOST, NO, NO),
    "a mount": (ROOT, NO, NO),
    "a user namespace": (HOST, NO, NO),
    "setuid": (ROOT, NO, NO),
    "another program": (YES, NO, YES),  # the container's own, within its limit of processes
    "a fork bomb": (YES, NO, NO),
    "a memory bomb": (NO, NO, NO),
    "filling the disk": (NO, NO, NO),
    "empty files outside its tmp": (YES, NO, NO),
    "changing its own packages": (HOST, NO, NO),
    "a host file": (YES, NO, NO),
    "the trainer's environment": (NO, NO, NO),
    "an inherited descriptor": (NO, NO, NO),
    "the kernel's keyring": (YES, NO, NO),
    "a new executable page": (YES, YES, YES),
    "raising its own limits": (HOST, NO, NO),
}


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """Everything a job would like to reach: listeners that answer, a process of the same user, a file, a variable, an open descriptor."""
    canary, abstract = f"canary-{secrets.token_hex(16)}", f"hessian-{secrets.token_hex(8)}"
    (tmp_path / "secret").write_text(canary, encoding="utf-8")
    monkeypatch.setenv("HESSIAN_CANARY", canary)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"host")
        writer.close()

    class Resolver(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(b"host", addr)

    async with contextlib.AsyncExitStack() as stack:
        tcp4 = await stack.enter_async_context(await asyncio.start_server(greet, "127.0.0.1", 0))
        tcp6_port = 1
        with contextlib.suppress(OSError):  # a host without IPv6
            tcp6 = await stack.enter_async_context(await asyncio.start_server(greet, "::1", 0))
            tcp6_port = tcp6.sockets[0].getsockname()[1]
        await stack.enter_async_context(await asyncio.start_unix_server(greet, tmp_path / "socket"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\0" + abstract)
        await stack.enter_async_context(await asyncio.start_unix_server(greet, sock=listener))
        resolver, _ = await asyncio.get_running_loop().create_datagram_endpoint(Resolver, ("127.0.0.1", 0))
        stack.callback(resolver.close)
        victim = stack.enter_context(subprocess.Popen(["sleep", "60"]))  # noqa: ASYNC220 - awaiting its start would gain nothing
        stack.callback(victim.kill)
        inherited = os.open(tmp_path / "secret", os.O_RDONLY)
        stack.callback(os.close, inherited)
        os.set_inheritable(inherited, True)
        yield {
            "tcp4": tcp4.sockets[0].getsockname()[1], "tcp6": tcp6_port, "udp": resolver.get_extra_info("sockname")[1],
            "unix": str(tmp_path / "socket"), "abstract": abstract, "victim": victim.pid, "victim_address": _mapped(victim.pid),
            "host_file": str(tmp_path / "secret"), "host_directory": str(tmp_path), "canary": canary, "memory": LIMITS.memory_bytes,
        }  # fmt: skip


def _mapped(pid: int) -> int:
    return int(Path(f"/proc/{pid}/maps").read_text(encoding="ascii").partition("-")[0], 16)


async def probed(backend: str, wanted: dict[str, Any], *, narrowed: bool) -> dict[str, str]:
    of = manifest(valid_terms(Timestamp(0)))
    header = json.dumps({"manifest": base64.b64encode(of.to_bytes()).decode(), "minimum_key_bits": KEY_BITS}).encode()
    async with (
        isolated(backend, program=worker_program(wanted, narrowed=narrowed)) as isolation,
        JobPool(isolation, processes=1, waiting=1) as pool,
    ):
        return dict(json.loads(await pool.run(Job.STATISTICS, header)))


def _expected(backend: str, attempt: str, outcome: str) -> str:
    expected = WALLS[attempt][BACKENDS.index(backend)]
    if expected == ROOT:
        return YES if os.geteuid() == 0 else NO
    return outcome.partition(":")[0] if expected == HOST else expected


@pytest.mark.parametrize("backend", BACKENDS)
async def test_probe__the_wall_alone__holds_what_its_table_says(backend: str, host: dict[str, Any]) -> None:
    outcomes = await probed(backend, host, narrowed=False)
    assert set(outcomes) == set(WALLS) == set(ATTEMPTS)
    different = {name: said for name, said in outcomes.items() if said.partition(":")[0] != _expected(backend, name, said)}
    assert not different


@pytest.mark.parametrize("backend", BACKENDS)
async def test_probe__as_jobs_run__succeeds_with_nothing(backend: str, host: dict[str, Any]) -> None:
    outcomes = await probed(backend, host, narrowed=True)
    assert set(outcomes) == set(ATTEMPTS)
    assert {name: said for name, said in outcomes.items() if not said.startswith("denied")} == {}


async def test_probe__the_decoder_of_uploads__succeeds_with_nothing(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PROGRAM", decoder_program(host | {"memory": uploads.MEMORY_BYTES}))
    table = await asyncio.to_thread(lambda: b"".join(uploads.as_csv([MAGIC])).decode())
    outcomes = dict[str, str](csv.reader(table.splitlines()[1:]))
    assert set(outcomes) == set(ATTEMPTS)
    assert {name: said for name, said in outcomes.items() if not said.startswith("denied")} == {}


def test_start_program__a_machine_nobody_wrote_a_table_for__is_none() -> None:
    assert calls.start_program("riscv64") is None
    assert calls.work_program("riscv64") is None


@pytest.mark.parametrize("machine", calls.MACHINES)
def test_work_program__compared_with_the_start__is_narrower(machine: str) -> None:
    start, work = calls.start_program(machine), calls.work_program(machine)
    assert start is not None
    assert work is not None
    assert len(work) < len(start)
    assert len(start) // 8 < 4096  # the kernel's own bound (BPF_MAXINSNS)
    assert set(calls.WORK) < set(calls.START)
    assert not {"socket", "connect", "fork", "clone3", "kill", "ptrace", "mount"} & set(calls.START)  # clone: threads only, see the probe
    assert not {"openat", "open", "execve", "prctl"} & set(calls.WORK)


def test_narrow__a_system_call_of_the_other_table__kills() -> None:
    """x86-64 kernels know 32-bit programs' numbers too: a filter that forgot them would be open by the back door."""
    if os.uname().machine != "x86_64":
        pytest.skip("a matter of x86-64")
    code = "import ctypes, hessian.confinement.filter as f; c = ctypes.CDLL(None); f.narrow(); c.syscall(0x40000000 + 39); print('lived')"
    ended = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-31, "")  # SIGSYS
    assert ctypes.sizeof(ctypes.c_void_p) == 8
