"""The whole story once: the demo with small keys, through real services, Postgres, chain and store, and what it leaves on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from devstack.demo.display import Display
from devstack.demo.report import Report
from devstack.demo.run import NAMES, Demo
from devstack.stack import Stack
from hessian.chain.events import MemberUnlocked, RoundSettled

KEY_BITS = 1024


@dataclass
class Played:
    """A finished run; its stack is stopped, its files are still there."""

    demo: Demo
    report: Report
    printed: str
    directory: Path
    data: Path
    cluster: Path


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Played]:
    directory, output = tmp_path_factory.mktemp("e2e") / "demo", io.StringIO()
    small_keys = {"minimum_key_bits": str(KEY_BITS)}
    with Stack(directory, kept=False, settings=small_keys) as stack, ExitStack() as closing, Display(Console(file=output)) as display:
        demo = Demo(stack, display, closing, key_bits=KEY_BITS)
        report = demo.play()
    yield Played(demo, report, output.getvalue(), directory, directory / "data", stack.postgres.data)
    stack.erase()


def test_training_run__five_owners__everything_the_report_promises_holds(played: Played) -> None:
    assert [check for check in played.report.checks if check.decides and not check.holds] == []
    assert 1 <= len(played.report.rounds) <= 8
    assert all(row.members == len(NAMES) and row.error_after < row.error_before for row in played.report.rounds)
    assert played.report.max_weight_error < 1e-5


def test_training_run__events_in_order__nobody_unlocks_before_the_lender_has_accepted(played: Played) -> None:
    kinds = [event.kind for event in played.demo.ledger.events]
    assert kinds[0] == "ModelCreated"
    for settled in played.demo.ledger.all(RoundSettled):
        of_round = [event for event in played.demo.ledger.events if getattr(event, "round_id", None) == settled.round_id]
        accepted = [event.kind for event in of_round].index("SubmissionsAccepted")
        assert all(of_round.index(event) > accepted for event in of_round if isinstance(event, MemberUnlocked))


def test_training_run__everything_it_wrote__holds_no_row_and_no_secret_in_clear(played: Played) -> None:
    """Rows may lie in the demo's own CSV files only; secrets in their own files only."""
    rows = [line for file in played.data.glob("owner-*.csv") for line in file.read_bytes().splitlines()[1:40]]
    secrets = [file.read_bytes().strip() for file in (played.directory / "secrets").iterdir()]
    places = [played.directory / "logs", played.directory / "blocks", played.directory / "owner-api-data", played.cluster]
    scanned = 0
    for file in (file for place in places for file in place.rglob("*") if file.is_file()):
        content = file.read_bytes()
        scanned += len(content)
        assert [needle for needle in (*rows, *secrets) if needle in content] == [], file
    assert scanned > 1_000_000
    assert not [secret for secret in secrets if secret.decode() in played.printed]


def test_training_run__what_it_printed__names_every_owner_and_round(played: Played) -> None:
    assert all(f"{name} withdrew" in played.printed for name in NAMES)
    assert all(f"round {settled.round_id} settled" in played.printed for settled in played.demo.ledger.all(RoundSettled))
