"""`hessian doctor` against real neighbours: what is well is said to be, and each thing that is wrong comes with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.anvil import Anvil
from devstack.contracts import Deployment
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
