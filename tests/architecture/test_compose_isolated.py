"""The override that gives every job a container: one service sees Docker, and it sees nothing else."""

from __future__ import annotations

from typing import Any

import yaml

from devstack.services import LAUNCHER
from devstack.toolchain import ROOT

FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.isolated.yml").read_text(encoding="utf-8"))
DOCKER_SOCKET = "/var/run/docker.sock:/var/run/docker.sock"


def test_compose_isolated__the_docker_socket__is_the_launchers_alone() -> None:
    seeing = {
        (file.name, name)
        for file in ROOT.glob("docker-compose*.yml")
        for name, service in yaml.safe_load(file.read_text(encoding="utf-8"))["services"].items()
        if any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    }
    assert seeing == {("docker-compose.isolated.yml", "launcher")}
    assert DOCKER_SOCKET in FILE["services"]["launcher"]["volumes"]


def test_compose_isolated__the_launcher__is_confined_and_on_no_network() -> None:
    launcher = FILE["services"]["launcher"]
    assert (launcher["read_only"], launcher["cap_drop"], launcher["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert launcher["network_mode"] == "none"
    assert not {"ports", "networks", "privileged", "cap_add", "user"} & set(launcher)  # the image's own user, which has no rights


def test_compose_isolated__the_launcher__can_be_told_every_variable_it_reads() -> None:
    wanted = {f"HESSIAN_{name.upper()}" for name in LAUNCHER.settings.model_fields}
    assert wanted - set(FILE["services"]["launcher"]["environment"]) == {"HESSIAN_LOG_JSON"}  # the image's own


def test_compose_isolated__launcher_and_trainer__meet_at_one_socket_with_one_token() -> None:
    launcher, trainer = (FILE["services"][name] for name in ("launcher", "trainer"))
    for variable in ("HESSIAN_LAUNCHER_SOCKET", "HESSIAN_LAUNCHER_TOKEN_FILE"):
        assert launcher["environment"][variable] == trainer["environment"][variable]
    assert "launcher:/run/launcher" in launcher["volumes"]
    assert trainer["volumes"] == ["launcher:/run/launcher"]
    assert trainer["environment"]["HESSIAN_ISOLATION"] == "docker"
