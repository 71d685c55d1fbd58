"""`python -m lender_api` as a process: serve, be killed while a model is made, stop when told, refuse to start without its keys."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from exposition import Exposition
from lender_node import FEATURES, lender_settings, loans
from sqlalchemy import create_engine, text

from devstack.anvil import POCKET_MONEY, Anvil
from devstack.contracts import Deployment
from devstack.processes import Child, answers, free_port, tail, wait_until
from hessian.identifiers import Address
from hessian.postgres.engine import database_url
from hessian.settings import DatabaseSettings
from lender_api.settings import Settings
from lender_api.tables import Base

Start = Callable[[], "Process"]


class Process:
    """The service with these settings; `client` speaks with the admin token."""

    def __init__(self, settings: Settings, log: Path) -> None:
        port, metrics_port = free_port(), free_port()
        plain = {f"HESSIAN_{name.upper()}": str(value) for name, value in settings.model_dump(mode="json", exclude_none=True).items()}
        environment = {"PATH": os.environ["PATH"], **plain, "HESSIAN_PORT": str(port), "HESSIAN_METRICS_PORT": str(metrics_port)}
        self.metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        self.child = Child("lender-api", [sys.executable, "-m", "lender_api"], log, environment=environment)
        token = settings.admin_token_file.read_text(encoding="utf-8")
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=20, trust_env=False
        )
        self.child.start()
        self._listens = lambda: answers("127.0.0.1", port)

    def serve(self) -> Process:
        """Wait until it listens."""
        wait_until(self._listens, self.child, seconds=40.0)
        return self

    def ended(self, seconds: float = 40.0) -> int:
        """Wait for its end; the exit code."""
        assert self.child.process is not None
        return self.child.process.wait(seconds)

    def until(self, holds: Callable[[], bool]) -> None:
        wait_until(holds, self.child, seconds=60.0, every=0.05)


@pytest.fixture
def settings(
    tmp_path: Path,
    database_settings: DatabaseSettings,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> Settings:
    return lender_settings(tmp_path, database_settings, anvil, repository_contract, serving_contract, block_store)


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def one() -> Process:
        started.append(Process(settings, tmp_path / "lender-api.log"))
        return started[-1]

    yield one
    for process in started:
        process.client.close()
        process.child.stop()


def post_model(process: Process, anvil: Anvil, key_bits: int) -> dict[str, Any]:
    anvil.fund(Address(process.client.get("/v1/wallet").json()["address"]), POCKET_MONEY)
    query = {"name": "loans", "label": "status", "positive": "bad"}
    rows = process.client.post("/v1/validation-sets", params=query, content=loans(200, seed=1), headers={"content-type": "text/csv"}).json()
    now = int(anvil.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    terms = {
        "bounty_wei": str(10**18), "base_fee_wei": "0", "member_bond_wei": "0", "target_error": 1_000_000, "max_rounds": 4, "row_cap": 999,
        **dict.fromkeys(("submit_window", "accept_window", "unlock_window", "evaluate_window"), 60), "training_deadline": now + 86_400,
    }  # fmt: skip
    wish = {"name": "Loans", "validation_set_id": rows["id"], "features": FEATURES, "key_bits": key_bits, "cohort_size": 2, "terms": terms}
    answer = process.client.post("/v1/models", json=wish, headers={"Idempotency-Key": secrets.token_hex(8)})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_serve__killed_while_it_makes_a_key_of_3072_bits__answers_meanwhile_and_finishes_after_the_restart(
    start: Start, anvil: Anvil
) -> None:
    first = start().serve()
    model = post_model(first, anvil, key_bits=3072)
    slowest = 0.0
    for _ in range(20):  # the key takes seconds to make
        begun = time.monotonic()
        assert first.client.get("/healthz").status_code == 200
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 1.0
    first.child.process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]  # it runs
    assert first.ended() == -signal.SIGKILL

    second = start().serve()
    assert second.client.get("/readyz").json()["status"] == "ready"
    second.until(lambda: second.client.get(f"/v1/models/{model['id']}").json()["state"] == "open")
    scraped = httpx.get(second.metrics, trust_env=False)
    assert Exposition(scraped.text).value("tx_intents", state="pending") is not None
    assert second.client.get("/metrics").status_code == 404  # on no port that others reach
    log = second.child.log.read_text(encoding="utf-8")
    assert log.count("key_stored") <= 1  # never a second key
    second.child.ask_to_stop()
    assert second.ended() == 0


def test_serve__told_to_stop_in_the_middle_of_a_key__ends_at_once_with_zero(start: Start, anvil: Anvil) -> None:
    process = start().serve()
    post_model(process, anvil, key_bits=8192)
    process.child.ask_to_stop()
    begun = time.monotonic()
    assert process.ended() == 0
    assert time.monotonic() - begun < 10


def test_start__wrong_passphrase__ends_with_one_sentence_and_changes_nothing(start: Start, settings: Settings) -> None:
    first = start().serve()
    address = first.client.get("/v1/wallet").json()["address"]
    first.child.ask_to_stop()
    assert first.ended() == 0
    right = settings.passphrase_file.read_text(encoding="utf-8")
    wrong = secrets.token_urlsafe(16)
    settings.passphrase_file.write_text(wrong, encoding="utf-8")
    second = start()
    assert second.ended() == 1
    assert tail(second.child.log, 1) == (
        "lender-api stops: the passphrase in HESSIAN_PASSPHRASE_FILE does not open the keys in this database"
    )
    assert wrong not in second.child.log.read_text(encoding="utf-8")
    settings.passphrase_file.write_text(right, encoding="utf-8")
    assert start().serve().client.get("/v1/wallet").json()["address"] == address


def test_start__wallet_row_gone_although_models_exist__refuses_instead_of_making_another(
    start: Start, settings: Settings, anvil: Anvil
) -> None:
    first = start().serve()
    post_model(first, anvil, key_bits=512)
    first.child.stop()
    engine = create_engine(database_url(settings))
    with engine.begin() as connection:
        connection.execute(text("delete from wallet"))
    engine.dispose()
    second = start()
    assert second.ended() == 1
    assert "restore the database from its backup" in tail(second.child.log, 1)


def test_start__schema_behind__says_how_to_migrate(start: Start, settings: Settings) -> None:
    engine = create_engine(database_url(settings))
    with engine.begin() as connection:
        connection.execute(text("delete from alembic_version"))
    engine.dispose()
    process = start()
    assert process.ended() == 1
    assert "python -m lender_api migrate" in tail(process.child.log, 1)


def test_migrate__on_an_empty_schema__makes_exactly_what_the_rows_need(settings: Settings) -> None:
    engine = create_engine(database_url(settings))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()
    assert differences == []
