"""The Compose files, the images' locks and the code say the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack.contracts import fixed_address
from devstack.services import SERVICES, Service
from devstack.toolchain import ROOT

SHAPES = {
    "docker-compose.yml": {"lender-api", "owner-api", "trainer", "coordinator", "chain", "ipfs", "contracts"},
    "docker-compose.lender.yml": {"lender-api", "coordinator"},
    "docker-compose.owner.yml": {"owner-api", "trainer", "coordinator"},
}
COMMON = "docker-compose.common.yml"
ISOLATED, OBSERVED = "docker-compose.isolated.yml", "docker-compose.observability.yml"
COMPOSE_2, COMPOSE_1 = ("docker", "compose"), ("docker-compose",)
REQUIRED = re.compile(r"\$\{(HESSIAN_\w+):\?")
LEFT_TO_THE_IMAGE = {"HESSIAN_HOST", "HESSIAN_METRICS_HOST", "HESSIAN_LOG_JSON"}
OUT_OF_THE_TRAINERS_REACH = {"HESSIAN_TRACES_URL"}
LEFT_TO_THE_SHAPE = {"HESSIAN_LENDER_URL", "HESSIAN_OWNER_URL", "HESSIAN_TRAINER_URL"}
OF_THE_LAUNCHER = {"HESSIAN_LAUNCHER_SOCKET", "HESSIAN_LAUNCHER_TOKEN_FILE"}
LOCKS = [*(f"services/{service.name}/requirements.lock" for service in SERVICES), "devstack/requirements.lock"]
FORBIDDEN_IN_THE_TRAINER = {
    "web3", "eth-account", "sqlalchemy", "psycopg", "alembic", "procrastinate", "aioipfs", "docker", "opentelemetry-sdk",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))


def pins(lock: str) -> dict[str, set[str]]:
    """Package → the entries of a lock (version, marker and hashes), comments apart."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, rest = entry.partition("==")
        version, hashes = re.split(r"[ \\]", rest, maxsplit=1)[0], re.findall(r"sha256:[0-9a-f]{64}", entry)
        found.setdefault(name.partition("[")[0], set()).add(f"{version} {' '.join(sorted(hashes))}")
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_compose__each_shape__has_its_services_and_their_migrations(shape: str) -> None:
    migrations = {f"migrate-{service.name}" for service in SERVICES if service.schema and service.name in SHAPES[shape]}
    assert set(read(shape)["services"]) == SHAPES[shape] | migrations | {"secrets", "postgres", "roles"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_compose__each_service__can_be_told_every_variable_it_reads(service: Service) -> None:
    wanted = {f"HESSIAN_{name.upper()}" for name in service.settings.model_fields}
    told = set(read(COMMON)["services"][service.name]["environment"])
    assert told - wanted == set()
    elsewhere = {"coordinator": LEFT_TO_THE_SHAPE, "trainer": OUT_OF_THE_TRAINERS_REACH}
    assert wanted - told - LEFT_TO_THE_IMAGE - OF_THE_LAUNCHER <= elsewhere.get(service.name, set())


@pytest.mark.parametrize("name", read(COMMON)["services"])
def test_compose__every_container__is_confined(name: str) -> None:
    service = read(COMMON)["services"][name]
    assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert service["pids_limit"] <= 256
    assert "mem_limit" in service
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & set(service)


@pytest.mark.parametrize("shape", SHAPES)
def test_compose__each_shape__publishes_on_loopback_only_and_neither_ipfs_nor_postgres_nor_the_trainer(shape: str) -> None:
    services = read(shape)["services"]
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    assert not [name for name in ("ipfs", "postgres", "trainer") if "ports" in services.get(name, {})]
    mounts = [volume for service in services.values() for volume in service.get("volumes", [])]
    assert not [mount for mount in mounts if mount.startswith(("/", ".")) or "docker.sock" in mount]


@pytest.mark.parametrize("shape", ["docker-compose.yml", "docker-compose.owner.yml"])
def test_compose__the_trainer__is_on_internal_networks_of_its_own_with_two_others(shape: str) -> None:
    file = read(shape)
    on = {
        network: {name for name, service in file["services"].items() if network in service.get("networks", ())}
        for network in file["networks"]
    }
    assert {network: names for network, names in on.items() if "trainer" in names} == {
        "tickets": {"trainer", "owner-api"}, "dispatch": {"trainer", "coordinator"},
    }  # fmt: skip
    assert all(file["networks"][network]["internal"] for network in ("tickets", "dispatch"))
    assert read(COMMON)["services"]["coordinator"]["environment"]["HESSIAN_HOST"] == "coordinator.outside"  # not on `dispatch`
    assert file["services"]["coordinator"]["networks"]["outside"] == {"aliases": ["coordinator.outside"]}
    assert read(COMMON)["services"]["owner-api"]["environment"]["HESSIAN_METRICS_HOST"] == "owner-api.outside"  # not on `tickets`
    assert file["services"]["owner-api"]["networks"]["outside"] == {"aliases": ["owner-api.outside"]}


def test_compose__the_development_chain__has_the_contract_where_the_services_look() -> None:
    assert read("docker-compose.yml")["x-chain"]["HESSIAN_REPOSITORY_ADDRESS"] == fixed_address(0)
    assert read("docker-compose.yml")["x-chain"]["HESSIAN_DEPLOYMENT_ADDRESS"] == fixed_address(1)


@pytest.mark.parametrize("name", [*SHAPES, COMMON])
def test_compose__every_file__has_nothing_that_one_version_of_compose_refuses(name: str) -> None:
    assert not {"version", "name"} & set(read(name))
    assert not [service for service in read(COMMON)["services"].values() if "depends_on" in service]  # 1.29 extends none that has it


@cache
def require_compose(program: Sequence[str]) -> None:
    """Skip where this version of Compose is missing. Neither needs a daemon to check files."""
    if shutil.which(program[0]) is None or subprocess.run([*program, "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{' '.join(program)} is not installed")


@pytest.mark.parametrize("program", [COMPOSE_2, COMPOSE_1], ids=" ".join)
@pytest.mark.parametrize("shape", SHAPES)
def test_compose__each_shape_and_what_goes_beside_it__is_accepted_by_this_version(
    program: Sequence[str], shape: str, tmp_path: Path
) -> None:
    require_compose(program)
    nothing = tmp_path / "nothing.env"
    nothing.touch()  # nothing of a developer's own .env, and nothing of the shell
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HESSIAN_", "COMPOSE_"))}
    beside = [OBSERVED, *([ISOLATED] if "trainer" in SHAPES[shape] else [])]
    # the old one takes its time: it reads every file, all at once; what is missing without the others the new one finds
    for names in [(shape, *beside)] if program == COMPOSE_1 else [(shape,), *((shape, file) for file in beside)]:
        required = {variable for name in names for variable in REQUIRED.findall((ROOT / name).read_text(encoding="utf-8"))}
        files = [part for name in names for part in ("--file", str(ROOT / name))]
        checked = subprocess.run(
            [*program, "--env-file", str(nothing), *files, "--profile", "observability", "config", "--quiet"],
            env=clean | dict.fromkeys(required, "1"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, (names, checked.stderr)
        assert "not set" not in checked.stderr, names  # a variable that no file gives a value; what else is said is the machine's business


@pytest.mark.parametrize("file", ["services/Dockerfile", "devstack/Dockerfile"])
def test_dockerfile__needs_no_extension_and_ends_without_rights(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not re.search(r"^#\s*syntax=|--mount=", text, re.MULTILINE)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1] == "10001:10001"
    assert re.findall(r"^ENTRYPOINT (.)", text, re.MULTILINE) == ["["]
    assert all("--require-hashes" in line for line in text.splitlines() if re.search(r"pip\b.* install", line) and line[0] != "#")


@pytest.mark.parametrize(
    ("file", "title"), [("services/Dockerfile", "hessian ${SERVICE}"), ("devstack/Dockerfile", "hessian development chain")]
)
def test_dockerfile__labels_of_the_image__say_what_it_is_and_where_from(file: str, title: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    final = text[text.rindex("\nFROM ") :]  # labels of an earlier stage would be lost
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', final))
    assert labels.pop("description")
    base = re.findall(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)
    assert labels == {"title": title, "licenses": "Apache-2.0", "version": "${VERSION}", "revision": "${REVISION}", "base.name": base[0]}
    assert set(re.findall(r"\$\{(\w+)\}", str(labels))) <= set(re.findall(r"^ARG (\w+)", final, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock__of_an_image__holds_only_what_the_one_lock_pins(lock: str) -> None:
    everything = pins("requirements.lock")
    assert {name: entries for name, entries in pins(lock).items() if not entries <= everything.get(name, set())} == {}, "run `make lock`"


def test_lock__of_the_trainer__has_neither_chain_nor_database_nor_ipfs_nor_tracing() -> None:
    assert FORBIDDEN_IN_THE_TRAINER & set(pins("services/trainer/requirements.lock")) == set()


@pytest.mark.parametrize("service", [service for service in SERVICES if service.name != "trainer"], ids=lambda service: service.name)
def test_lock__of_each_service_that_reaches_a_collector__has_what_traces_need(service: Service) -> None:
    assert "opentelemetry-exporter-otlp-proto-http" in pins(f"services/{service.name}/requirements.lock")


def test_dockerignore__lets_in_by_name_only() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert all(line.startswith("!") or line == "**/__pycache__" for line in lines[1:])
    assert not [line for line in lines if re.search(r"\.env|build|secret|tests|\.git", line)]
