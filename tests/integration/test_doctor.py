"""`hessian doctor` against real neighbours: what is well is said to be, and each thing that is wrong comes with what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.doctor import machine, neighbours
from devstack.doctor.examination import examine
from devstack.doctor.findings import Finding, Findings, Verdict
from hessian.settings import DatabaseSettings


@pytest.fixture
def configured(
    tmp_path: Path,
    database_settings: DatabaseSettings,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> dict[str, str]:
    """A service's environment on neighbours that all answer."""
    token = tmp_path / "admin.token"
    token.touch(mode=0o600)
    token.write_text("t" * 32, encoding="utf-8")
    return {
        "HESSIAN_DATABASE_URL": database_settings.database_url,
        "HESSIAN_DATABASE_PASSWORD_FILE": str(database_settings.database_password_file),
        "HESSIAN_RPC_URL": anvil.url,
        "HESSIAN_CHAIN_ID": str(anvil.chain_id),
        "HESSIAN_REPOSITORY_ADDRESS": repository_contract.address,
        "HESSIAN_DEPLOYMENT_ADDRESS": serving_contract.address,
        "HESSIAN_IPFS_URL": block_store,
        "HESSIAN_ADMIN_TOKEN_FILE": str(token),
    }


def of(findings: Findings, subject: str) -> Finding:
    (found,) = (finding for finding in findings if finding.subject == subject)
    return found


def test_examine__everything_answers__only_the_empty_schema_is_wrong(tmp_path: Path, configured: Mapping[str, str]) -> None:
    findings = examine(tmp_path, configured)

    assert {finding.subject for finding in findings if finding.verdict is Verdict.WRONG} <= {"Postgres"}
    assert "schema is empty" in of(findings, "Postgres").sentence
    assert [of(findings, subject).verdict for subject in ("chain", "IPFS", "clock", "secret admin_token")] == [Verdict.WELL] * 4


@pytest.mark.parametrize(
    ("change", "subject", "sentence"),
    [
        ({"HESSIAN_CHAIN_ID": "1"}, "chain", "serves chain"),
        ({"HESSIAN_REPOSITORY_ADDRESS": "0x" + "12" * 20}, "chain", "no contract"),
        ({"HESSIAN_REPOSITORY_ADDRESS": "0x12"}, "chain", "HESSIAN_REPOSITORY_ADDRESS"),
        ({"HESSIAN_RPC_URL": "http://127.0.0.1:9"}, "chain", "cannot be reached"),
        ({"HESSIAN_IPFS_URL": "http://127.0.0.1:9"}, "IPFS", "does not answer"),
        ({"HESSIAN_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:9/none"}, "Postgres", "."),
    ],
)
def test_examine__one_neighbour_is_not_as_configured__says_which_and_what_to_do(
    tmp_path: Path, configured: dict[str, str], change: dict[str, str], subject: str, sentence: str
) -> None:
    findings = examine(tmp_path, configured | change)
    found = of(findings, subject)

    assert not findings.are_well
    assert found.verdict is Verdict.WRONG
    assert sentence in found.sentence
    assert found.remedy


def test_examine__a_secret_others_can_read__is_wrong(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("open to all", encoding="utf-8")
    secret.chmod(0o644)
    findings = examine(tmp_path, {"HESSIAN_PASSPHRASE_FILE": str(secret)})

    assert of(findings, "secret passphrase").verdict is Verdict.WRONG
    assert "open to all" not in " ".join(finding.sentence + finding.remedy for finding in findings)


def test_examine__a_secret_in_a_folder_others_can_write__is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("sealed", encoding="utf-8")

    assert of(examine(tmp_path, {"HESSIAN_PASSPHRASE_FILE": str(secret)}), "secret passphrase").verdict is Verdict.WRONG


def test_examine__nothing_configured_and_nothing_running__advises_how_to_start(tmp_path: Path) -> None:
    findings = examine(tmp_path / "stack", {})

    assert of(findings, "stack").verdict is Verdict.ADVICE
    assert findings.are_well


@pytest.mark.parametrize(("variable", "subject"), [("HESSIAN_PORT", "port"), ("HESSIAN_METRICS_PORT", "metrics port")])
def test_examine__a_port_that_somebody_listens_on__says_which_variable_to_change(tmp_path: Path, variable: str, subject: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = of(examine(tmp_path, {variable: port}), subject)
    assert found.verdict is Verdict.ADVICE  # the service itself may be what listens
    assert f"127.0.0.1:{port} is not free" in found.sentence
    assert variable in found.remedy
    assert of(examine(tmp_path, {variable: "0"}), subject).verdict is Verdict.WELL


def test_examine__metrics_on_a_host_of_their_own__is_asked_about_that_one(tmp_path: Path) -> None:
    variables = {"HESSIAN_HOST": "192.0.2.1", "HESSIAN_METRICS_PORT": "0"}  # no address of this machine
    shared, own = examine(tmp_path, variables), examine(tmp_path, variables | {"HESSIAN_METRICS_HOST": "127.0.0.1"})
    assert of(shared, "metrics port").sentence.startswith("192.0.2.1:0 is not free")
    assert of(own, "metrics port").sentence == "127.0.0.1:0 is free"


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_examine__a_port_that_is_none__is_wrong(tmp_path: Path, port: str) -> None:
    found = of(examine(tmp_path, {"HESSIAN_PORT": port}), "port")
    assert (found.verdict, found.sentence) == (Verdict.WRONG, f"{port} is not a port")
    assert "HESSIAN_PORT" in found.remedy


@pytest.mark.parametrize(("answer", "verdict"), [("v18.20.4", Verdict.WRONG), ("no version", Verdict.WRONG), ("v20.0.0", Verdict.WELL)])
def test_examine__the_node_on_the_path__must_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, verdict: Verdict
) -> None:
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\necho '{answer}'\n", encoding="utf-8")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "ROOT", tmp_path)  # not the one that was set up here
    found = of(examine(tmp_path, {}), "Node")
    assert found.verdict is verdict
    assert str(node) in found.sentence
    assert ("has to go" in found.remedy) is (verdict is Verdict.WRONG)


@pytest.mark.parametrize(
    ("free", "verdict", "remedy"), [(0, Verdict.WRONG, "free at least 1 GiB"), (2 << 30, Verdict.ADVICE, "wants 5 GiB")]
)
def test_examine__a_disk_that_is_full_or_nearly__says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict, remedy: str
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = of(examine(tmp_path, {}), "disk")
    assert found.verdict is verdict
    assert remedy in found.remedy


def test_examine__a_clock_that_is_off__is_wrong_and_both_are_to_be_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_settings: DatabaseSettings
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(minutes=2)

    monkeypatch.setattr(neighbours, "datetime", Ahead)
    variables = {
        "HESSIAN_DATABASE_URL": database_settings.database_url,
        "HESSIAN_DATABASE_PASSWORD_FILE": str(database_settings.database_password_file),
    }
    found = of(examine(tmp_path, variables), "clock")
    assert found.verdict is Verdict.WRONG
    assert "differ by 120 s" in found.sentence
    assert "synchronise both clocks" in found.remedy
