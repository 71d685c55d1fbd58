"""The Kubernetes manifests against the schemas of Kubernetes itself, and against what must hold of them. Needs no cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from devstack.services import SERVICES
from devstack.toolchain import ROOT

PLACE = ROOT / "deploy" / "kubernetes"
OVERLAYS = {"lender": {"lender-api", "coordinator"}, "owner": {"owner-api", "trainer", "coordinator"}}
VERSIONS = ("1.31", kubernetes_validate.latest_version())
PARTIAL = {"coordinator-urls.yaml", "kustomization.yaml"}
MANIFESTS = sorted(path for path in PLACE.rglob("*.yaml") if path.name not in PARTIAL)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def resources(overlay: str) -> list[dict[str, Any]]:
    """What an overlay's kustomization lists, the base's included; kustomize itself is not needed for that."""
    found, places = [], [PLACE / "overlays" / overlay]
    while places:
        place = places.pop()
        for entry in yaml.safe_load((place / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]:
            if (place / entry).is_dir():
                places.append((place / entry).resolve())
            else:
                found += documents(place / entry)
    return found


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Pod specifications by the workload's name."""
    return {item["metadata"]["name"]: item["spec"]["template"]["spec"] for item in resources(overlay) if "template" in item.get("spec", {})}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifest__against_the_schema__is_valid_and_has_no_unknown_field(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_manifest__with_a_misspelt_field__is_found() -> None:
    document = documents(PLACE / "base" / "coordinator.yaml")[0]
    document["spec"]["template"]["spec"]["containers"][0]["securityContexts"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay__each_pod__runs_without_rights(overlay: str) -> None:
    assert {name for name in pods(overlay) if not name.startswith("migrate-")} == OVERLAYS[overlay]
    for name, pod in pods(overlay).items():
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 10001, 10001), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"]), name
        volumes = [set(volume) - {"name"} for volume in pod["volumes"]]
        assert all(kinds <= {"secret", "emptyDir", "persistentVolumeClaim"} for kinds in volumes), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay__each_service__is_told_what_it_requires(overlay: str) -> None:
    shared = set(re.findall(r"^(HESSIAN_\w+)=", (PLACE / "overlays" / overlay / "settings.env").read_text(encoding="utf-8"), re.MULTILINE))
    found = pods(overlay)
    for service in (service for service in SERVICES if service.name in OVERLAYS[overlay]):
        for name in (service.name, f"migrate-{service.name}"):
            if name not in found:
                assert service.schema is None
                continue
            container = found[name]["containers"][0]
            told = {entry["name"] for entry in container["env"]} | (shared if "envFrom" in container else set())
            required = {f"HESSIAN_{field.upper()}" for field, info in service.settings.model_fields.items() if info.is_required()}
            assert required - told == {"HESSIAN_PORT"}, name  # the image's own


def test_trainer__its_policy__lets_it_reach_owner_api_alone() -> None:
    policies = {item["metadata"]["name"]: item["spec"] for item in resources("owner") if item["kind"] == "NetworkPolicy"}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["trainer"]["egress"] == [
        {"to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "owner-api"}}}], "ports": [{"protocol": "TCP", "port": 8000}]}
    ]
    others = [spec for name, spec in policies.items() if name != "trainer" and "egress" in spec]
    excluded = {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["trainer"]}
    assert all(excluded in spec["podSelector"]["matchExpressions"] for spec in others)
    trainer = pods("owner")["trainer"]
    assert (trainer["dnsPolicy"], trainer["dnsConfig"]) == ("None", {"nameservers": ["127.0.0.1"]})
    assert "envFrom" not in trainer["containers"][0]  # it is not even told where the chain is


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay__metrics_of_each_service__are_announced_and_open_to_labelled_namespaces_alone(overlay: str) -> None:
    items = resources(overlay)
    for template in (item["spec"]["template"] for item in items if item["kind"] == "Deployment"):
        container = template["spec"]["containers"][0]
        assert {"name": "HESSIAN_METRICS_PORT", "value": "9100"} in container["env"], container["name"]
        assert {"name": "metrics", "containerPort": 9100} in container["ports"], container["name"]
        assert template["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true", "prometheus.io/port": "9100", "prometheus.io/path": "/metrics",
        }, container["name"]  # fmt: skip
    opening = [
        (item["metadata"]["name"], rule["from"])
        for item in items if item["kind"] == "NetworkPolicy"
        for rule in item["spec"].get("ingress", [])
        if any(port["port"] == 9100 for port in rule["ports"])
    ]  # fmt: skip
    assert opening == [("metrics", [{"namespaceSelector": {"matchLabels": {"hessian/calls": "metrics"}}}])]
    services = [port["port"] for item in items if item["kind"] == "Service" for port in item["spec"]["ports"]]
    assert set(services) == {8000}  # an ingress that is given a service reaches no figures


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay__built_by_kustomize__is_valid(overlay: str) -> None:
    kustomize = shutil.which("kustomize")
    if kustomize is None:
        pytest.skip("no kustomize on this machine; its inputs are checked one by one above")
    built = subprocess.run([kustomize, "build", str(PLACE / "overlays" / overlay)], capture_output=True, text=True, check=True)
    items = list(yaml.safe_load_all(built.stdout))
    for item in items:
        kubernetes_validate.validate(item, VERSIONS[-1], strict=True)
    assert {item["metadata"]["namespace"] for item in items if item["kind"] != "Namespace"} == {f"hessian-{overlay}"}
    coordinator = next(item for item in items if (item["kind"], item["metadata"]["name"]) == ("Deployment", "coordinator"))
    environment = {entry["name"] for entry in coordinator["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert f"HESSIAN_{overlay.upper()}_URL" in environment
