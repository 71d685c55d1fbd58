"""The whole story once: the demo with small keys, through real services, Postgres, chain and store, and what it leaves on disk."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from trace_collector import TraceCollector, collecting_traces

from devstack.demo.display import Display
from devstack.demo.report import Report
from devstack.demo.run import NAMES, Demo
from devstack.services import SERVICES
from devstack.stack import Stack
from hessian.chain.events import MemberUnlocked, RoundSettled
from hessian.tracing.telemetry import root_of

KEY_BITS = 1024
PURPOSES_OF_ROUNDS = {"submit", "unlock", "accept_submissions", "report_round", "expire_round"}


@dataclass
class Played:
    """A finished run; its stack is stopped, its files are still there."""

    demo: Demo
    report: Report
    printed: str
    directory: Path
    data: Path
    cluster: Path
    traces: TraceCollector


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Played]:
    directory, output = tmp_path_factory.mktemp("e2e") / "demo", io.StringIO()
    with collecting_traces() as traces:
        settings = {"minimum_key_bits": str(KEY_BITS), "log_json": "true", "traces_url": traces.url}
        with Stack(directory, kept=False, settings=settings) as stack, ExitStack() as closing, Display(Console(file=output)) as display:
            demo = Demo(stack, display, closing, key_bits=KEY_BITS)
            report = demo.play()
    yield Played(demo, report, output.getvalue(), directory, directory / "data", stack.postgres.data, traces)
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


def test_training_run__the_logs_of_all_services__tell_each_round_under_one_correlation_id(played: Played) -> None:
    lines = {service.name: log_lines(played.directory / "logs" / f"{service.name}.log") for service in SERVICES}
    for settled in played.demo.ledger.all(RoundSettled):
        identity = f"round-{settled.round_id}"
        told = {name: {line["event"] for line in of_one if line.get("correlation_id") == identity} for name, of_one in lines.items()}
        assert told["coordinator"] >= {"event_done", "job_moved", "gradient_published"}
        assert told["owner-api"] >= {"contribution_prepared", "sending_enqueued", "transaction_signed", "transaction_final"}
        assert told["trainer"] >= {"gradient_computed"}
        assert told["lender-api"] >= {"round_evaluated", "transaction_signed", "transaction_final"}
    strays = [
        line
        for line in (line for of_one in lines.values() for line in of_one)
        if ("round_id" in line or line.get("purpose") in PURPOSES_OF_ROUNDS) and not str(line.get("correlation_id")).startswith("round-")
    ]
    assert strays == []


def test_training_run__the_traces_of_all_services__hold_each_round_in_one_and_nothing_private(played: Played) -> None:
    market = f"{played.demo.stack.anvil.chain_id}:{played.demo.ledger.repository.address.lower()}"
    for settled in played.demo.ledger.all(RoundSettled):
        trace = root_of(market, f"round-{settled.round_id}").trace_id
        told = {(service, name) for found, service, name in played.traces.spans if found == trace}
        assert told >= {
            ("coordinator", "job contribute"),
            ("owner-api", "transaction submit"),
            ("owner-api", "transaction unlock"),
            ("trainer", "gradient step"),
            ("lender-api", "transaction report_round"),
        }
    private = [file.read_bytes().strip() for file in (played.directory / "secrets").iterdir()]
    private += [line for file in played.data.glob("owner-*.csv") for line in file.read_bytes().splitlines()[1:40]]
    private += [event.member.encode() for event in played.demo.ledger.all(MemberUnlocked)]
    assert [needle for needle in private if needle in played.traces.raw] == []


def log_lines(file: Path) -> list[dict[str, Any]]:
    """A service's own lines; those of the libraries it uses are plain text."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
