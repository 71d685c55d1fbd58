"""What is written twice says the same twice: the ABI, the variables, the lock."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from devstack.__main__ import ABIS
from devstack.services import LAUNCHER, SERVICES
from devstack.stack import Stack
from devstack.toolchain import ROOT, compiled
from devstack.variables import env_example
from hessian import __version__


@pytest.mark.parametrize("contract", ABIS)
def test_abi__in_the_library__equals_what_forge_built(contract: str, built_contracts: Path) -> None:
    in_library = json.loads(ABIS[contract].read_text(encoding="utf-8"))["abi"]
    assert in_library == compiled(contract)["abi"], "run `make abi`"


def test_env_example__against_the_settings_classes__is_complete() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example(), "run `hessian env-example`"


def test_env_example__parsed__names_every_variable_once_for_each_class_that_reads_it() -> None:
    named = set(re.findall(r"^#?(HESSIAN_[A-Z0-9_]+)=", env_example(), re.MULTILINE))
    assert named == {f"HESSIAN_{name.upper()}" for service in (*SERVICES, LAUNCHER) for name in service.settings.model_fields}


def test_environment__of_a_service__holds_what_its_settings_require_and_no_secret(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", kept=False)
    (tmp_path / "stack" / "secrets").mkdir(parents=True)
    stack.ports = dict.fromkeys(["postgres", "anvil", "block-store", *(service.name for service in SERVICES)], 4242)
    stack.make_secrets()
    places = {name: {"address": "0x" + "11" * 20, "block": 1} for name in ("repository", "serving")}
    known = {"ports": stack.ports, **places}
    (tmp_path / "stack" / "stack.json").write_text(json.dumps(known), encoding="utf-8")
    stack.load()
    secrets = [file.read_text(encoding="utf-8") for file in stack.secrets.iterdir()]
    for service in SERVICES:
        environment = stack.environment(service)
        required = {f"HESSIAN_{name.upper()}" for name, field in service.settings.model_fields.items() if field.is_required()}
        assert required <= set(environment)
        assert not [secret for secret in secrets if secret in str(environment)]


def test_lock__names_no_registry_and_hashes_everything() -> None:
    for name in ("requirements.lock", "requirements-node.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        pins = re.findall(r"^[a-zA-Z0-9._-]+(?:\[[^\]]*\])?==\S+.*\\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-zA-Z0-9]", text, re.MULTILINE))
        assert "://" not in text


def test_lock__against_the_members__pins_every_dependency() -> None:
    locked = {line.partition("==")[0].partition("[")[0] for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()}
    root = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ours = {Path(member).name for member in root["tool"]["uv"]["workspace"]["members"]}
    wanted = list(root["dependency-groups"]["dev"])
    for member in root["tool"]["uv"]["workspace"]["members"]:
        project = tomllib.loads((ROOT / member / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        wanted += project["dependencies"] + [entry for extra in project.get("optional-dependencies", {}).values() for entry in extra]
    names = {re.split(r"[\[<>=!~; ]", entry)[0].lower() for entry in wanted}
    assert names - ours <= locked, "run `make lock`"


def test_version__of_packages_images_and_manifests__is_one() -> None:
    packages = [ROOT / "pyproject.toml", *ROOT.glob("*/pyproject.toml"), *ROOT.glob("*/*/pyproject.toml")]
    said = {tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"] for path in packages}
    for pattern, paths in (
        (r"^ARG VERSION=(.+)$", ROOT.glob("*/Dockerfile")),
        (r"newTag: ([^}]+)}", ROOT.glob("deploy/kubernetes/overlays/*/kustomization.yaml")),
    ):
        found = [each for path in paths for each in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)]
        assert found
        said.update(found)
    assert said == {__version__}
