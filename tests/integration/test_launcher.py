"""The launcher: what it lets nobody do, and what it removes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from isolations import IMAGE, LIMITS, OWNER, Before, isolated, require_image

from hessian.settings import BadSettings
from trainer.isolation import frames
from trainer.isolation.container import ContainerIsolation
from trainer.isolation.frames import FrameRefused, Said
from trainer.isolation.worker import IsolationUnavailable, JobLimits
from trainer.launcher.__main__ import owner_of
from trainer.launcher.containers import LABEL, Docker, DockerUnavailable
from trainer.launcher.server import Launcher

TOKEN = "a launcher's token"


def laboratory(*, image: str | None = None, owner: str = OWNER) -> Docker:
    return Docker(image or require_image(), LIMITS, owner=owner)


def containers(owner: str) -> list[str]:
    return [str(c.id) for c in docker.from_env().containers.list(all=True, filters={"label": f"{LABEL}={owner}"})]


async def test_connection__with_another_token__gets_no_container(tmp_path: Path) -> None:
    async with Launcher(laboratory(), token=TOKEN, containers=1).listening(tmp_path / "socket"):
        before = Before.now("docker")
        for wrong in ("", "another", TOKEN + "x", "x" * 100_000):
            with pytest.raises(IsolationUnavailable):
                await ContainerIsolation(LIMITS, socket=tmp_path / "socket", token=wrong).start()
        await before.nothing_is_left()


async def test_connection__more_than_it_may_start__is_refused_until_one_has_gone(tmp_path: Path) -> None:
    async with Launcher(laboratory(), token=TOKEN, containers=1).listening(tmp_path / "socket"):
        isolation = ContainerIsolation(LIMITS, socket=tmp_path / "socket", token=TOKEN)
        worker = await isolation.start()
        with pytest.raises(IsolationUnavailable, match="every container"):
            await isolation.start()
        await worker.end()


async def test_connection__that_says_something_else__loses_its_container(tmp_path: Path) -> None:
    async with Launcher(laboratory(), token=TOKEN, containers=1).listening(tmp_path / "socket"):
        before = Before.now("docker")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(f"{TOKEN}\n".encode())
        assert (await frames.read_frame(reader))[0] is Said.STARTED
        assert len(containers(OWNER)) == 1
        writer.write(json.dumps({"Image": "python", "Privileged": True}).encode())
        await before.nothing_is_left()
        writer.close()


async def test_container__as_it_was_made__has_the_fixed_options(tmp_path: Path) -> None:
    async with isolated("docker") as isolation:
        worker = await isolation.start()
        (made,) = docker.from_env().containers.list(filters={"label": f"{LABEL}={OWNER}"})
        options, configured = made.attrs["HostConfig"], made.attrs["Config"]
        await worker.end()
    assert (options["NetworkMode"], options["ReadonlyRootfs"], options["Privileged"]) == ("none", True, False)
    assert (options["CapDrop"], options["CapAdd"], options["SecurityOpt"]) == (["ALL"], None, ["no-new-privileges:true"])
    assert (options["PidsLimit"], options["NanoCpus"], options["IpcMode"]) == (8, 10**9, "none")
    assert options["Memory"] == options["MemorySwap"] == LIMITS.memory_bytes + (64 << 20)
    assert {limit["Name"] for limit in options["Ulimits"]} == {"nofile", "core", "fsize"}
    assert (options["Binds"], options["LogConfig"]["Type"]) == (None, "none")
    assert (configured["User"], configured["Image"]) == ("65534:65534", IMAGE)
    assert not [variable for variable in configured["Env"] if variable.startswith("HESSIAN_") and "TOKEN" in variable]


def test_check__an_image_that_is_not_here__says_so() -> None:
    require_image()
    with pytest.raises(DockerUnavailable, match="hessian-nobody-built-this"):
        laboratory(image="hessian-nobody-built-this").check()


async def test_listening__where_nobody_can__is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot listen"):
        async with Launcher(laboratory(), token=TOKEN, containers=1).listening(tmp_path / "missing" / "socket"):
            pass


async def test_launcher__killed_and_started_again__removes_what_its_earlier_life_left(tmp_path: Path) -> None:
    socket, token = tmp_path / "socket", tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN, encoding="utf-8")
    told = {"SOCKET": str(socket), "TOKEN_FILE": str(token), "IMAGE": require_image()}
    environment = {"PATH": os.environ["PATH"], **{f"HESSIAN_LAUNCHER_{name}": value for name, value in told.items()}}

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-m", "trainer.launcher"], env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "launcher_ready" in process.stderr.readline()
        return process

    isolation = ContainerIsolation(JobLimits(1 << 30, 20, 20.0, 1 << 20), socket=socket, token=TOKEN)
    with begin() as launcher:
        async with asyncio.timeout(20):
            while not socket.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        worker = await isolation.start()
        await worker.feed(b"statistics 1000\n")  # in the middle of its input
        launcher.kill()
    with pytest.raises(IsolationUnavailable, match="went away"):
        await worker.wait()
    await worker.end()
    others = owner_of("of another node on this machine")
    stranger = laboratory(owner=others).start()
    try:
        assert len(containers(owner_of(TOKEN))) == 1
        with begin() as launcher:
            assert (containers(owner_of(TOKEN)), containers(others)) == ([], [stranger.identity])
            launcher.send_signal(signal.SIGTERM)
    finally:
        stranger.streams.close()
        laboratory().remove(stranger.identity)
    assert launcher.returncode == 0


async def test_read_frame__of_another_protocol__is_refused() -> None:
    for data in (b"HTTP/1.1 200 OK\r\n", b"\x01\0\0\0\xff\xff\xff\xff", b"\x09\0\0\0\0\0\0\0"):
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        with pytest.raises(FrameRefused):
            await frames.read_frame(reader)
    with pytest.raises(FrameRefused):
        frames.code_of(b"1")
