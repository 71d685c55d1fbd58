"""Which backend is chosen, and what an operator reads who named one that does not work here."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from isolations import require_bwrap
from structlog.testing import capture_logs

from hessian.settings import BadSettings
from trainer.isolation.choice import choose
from trainer.settings import TrainerSettings


def settings(tmp_path: Path, **values: str) -> TrainerSettings:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a token", encoding="utf-8")
    told = {"port": "0", "owner_url": "http://127.0.0.1:1", "coordinator_token_file": str(token), "trainer_token_file": str(token)}
    return TrainerSettings.model_validate(told | values)


def broken_bwrap(directory: Path) -> Path:
    """A bubblewrap as hardened hosts and containers have it."""
    program = directory / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program.parent


async def test_choose__auto_where_bubblewrap_works__takes_it_and_says_so(tmp_path: Path) -> None:
    require_bwrap()
    with capture_logs() as lines:
        isolation = await choose(settings(tmp_path))
    assert isolation.name == "bwrap"
    assert [(line["event"], line["isolation"]) for line in lines] == [("isolation_chosen", "bwrap")]


async def test_choose__auto_where_bubblewrap_does_not_work__takes_a_process_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(broken_bwrap(tmp_path)) + os.pathsep + os.environ["PATH"])
    with capture_logs() as lines:
        isolation = await choose(settings(tmp_path))
    assert isolation.name == "process"
    assert "No permissions to create a new namespace" in lines[-1]["because"]


async def test_choose__bwrap_where_it_is_missing__is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadSettings, match=r"HESSIAN_ISOLATION is bwrap.*apt install bubblewrap"):
        await choose(settings(tmp_path, isolation="bwrap"))


async def test_choose__docker_without_a_launcher__is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="HESSIAN_LAUNCHER_SOCKET"):
        await choose(settings(tmp_path, isolation="docker"))
    told = {"launcher_socket": str(tmp_path / "nobody"), "launcher_token_file": str(tmp_path / "token")}
    with pytest.raises(BadSettings, match="no launcher answers"):
        await choose(settings(tmp_path, isolation="docker", **told))


def test_trainer__told_to_use_a_backend_that_does_not_work__ends_with_one_sentence(tmp_path: Path) -> None:
    named = settings(tmp_path)
    environment = {
        "PATH": str(broken_bwrap(tmp_path)),
        "HESSIAN_ISOLATION": "bwrap",
        "HESSIAN_PORT": "0",
        "HESSIAN_OWNER_URL": "http://127.0.0.1:1",
        "HESSIAN_COORDINATOR_TOKEN_FILE": str(named.coordinator_token_file),
        "HESSIAN_TRAINER_TOKEN_FILE": str(named.trainer_token_file),
    }
    ended = subprocess.run([sys.executable, "-m", "trainer"], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "No permissions to create a new namespace" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
