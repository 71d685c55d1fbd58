"""The drill of docs/operations.md: a node loses its database, its secrets and its datasets in mid-training, and goes on from their backup.

Chain and IPFS stay as they are: they are public, and no part of a node's backup. Afterwards the lender alone gets back a database from
before its first round.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from whole_stack import WholeStack, eventually, running_stack

from devstack.demo.parties import DataOwner
from devstack.postgres import SUPERUSER, Postgres, write_secret
from devstack.postgres_user import bare_environment, binaries_for
from devstack.processes import free_port, stop_all
from devstack.services import SERVICES
from devstack.stack import DATABASE, Stack
from hessian.chain.events import ModelClosed, RoundFailed, RoundSettled
from hessian.identifiers import ModelId, RoundId

LENDER = next(service for service in SERVICES if service.name == "lender-api")


@dataclass
class Restored:
    """A node in mid-training whose state is back where it was; its services do not run yet.

    `older` is the dump of the lender's schema before any round.
    """

    whole: WholeStack
    owners: list[DataOwner]
    model_id: ModelId
    older: Path


@dataclass
class Backup:
    """What a node cannot make anew."""

    place: Path

    def take(self, stack: Stack) -> None:
        self.place.mkdir()
        with (self.place / "hessian.dump").open("wb") as dump:
            postgres_tool(stack, "pg_dump", "--format=custom", DATABASE, output=dump.fileno())
        for directory in (stack.secrets, datasets_of(stack)):
            shutil.copytree(directory, self.place / directory.name)

    def restore(self, stack: Stack) -> None:
        """Secrets first: the roles that own what the database holds have their passwords from there."""
        for directory in (stack.secrets, datasets_of(stack)):
            shutil.copytree(self.place / directory.name, directory)
        stack.postgres.create_database(DATABASE)
        make_roles(stack)
        with (self.place / "hessian.dump").open("rb") as dump:
            postgres_tool(stack, "pg_restore", "--clean", "--if-exists", "--exit-on-error", f"--dbname={DATABASE}", given=dump.fileno())


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Restored]:
    place = tmp_path_factory.mktemp("drill")
    with running_stack(place / "stack", {"job_processes": "1"}) as whole:
        owners = [whole.owner(name, rows, seed=rows) for name, rows in (("first", 200), ("second", 190))]
        model_id = ModelId(whole.open_model(cohort_size=2, max_rounds=3)["model_id"])
        older = place / "older.dump"
        with older.open("wb") as dump:
            postgres_tool(whole.stack, "pg_dump", "--format=custom", f"--schema={LENDER.schema}", DATABASE, output=dump.fileno())
        for owner in owners:
            owner.enrol(model_id)
        whole.event(RoundSettled, model_id)
        stop_all(list(whole.stack.services.values()))
        backup = Backup(place / "backup")
        backup.take(whole.stack)
        lose(whole.stack)
        backup.restore(whole.stack)
        yield Restored(whole, owners, model_id, older)


def lose(stack: Stack) -> None:
    """What a broken disk takes along; a new, empty Postgres stands in its place."""
    stack.services.clear()
    stack.postgres.stop()
    stack.postgres.delete()
    for directory in (stack.secrets, datasets_of(stack)):
        shutil.rmtree(directory)
    stack.postgres = Postgres(stack.postgres.directory, stack.postgres.log, port=stack.postgres.port, durable=False)
    stack.postgres.start()


def make_roles(stack: Stack) -> None:
    """With the passwords that the secrets hold: what the job `roles` does."""
    for service in SERVICES:
        if service.schema is not None:
            password = (stack.secrets / f"{service.schema}.database-password").read_text(encoding="utf-8")
            stack.postgres.give_schema(DATABASE, service.schema, password)


def rotate(stack: Stack) -> None:
    """New tokens between the services, new passwords of the database roles."""
    for name in ("coordinator.token", "trainer.token", *(f"{service.schema}.database-password" for service in SERVICES if service.schema)):
        write_secret(stack.secrets / name, secrets.token_urlsafe(32))
    make_roles(stack)


def datasets_of(stack: Stack) -> Path:
    return stack.directory / "owner-api-data"


def postgres_tool(stack: Stack, name: str, *arguments: str, output: int = subprocess.PIPE, given: int = subprocess.DEVNULL) -> None:
    """One of Postgres's own programs, as the superuser."""
    postgres = stack.postgres
    login = ["--host", postgres.host, "--port", str(postgres.port), "--username", SUPERUSER, "--no-password"]
    environment = {**bare_environment(), "PGPASSWORD": postgres.password}
    command = [str(binaries_for(postgres.user) / name), *login, *arguments]
    result = subprocess.run(command, stdin=given, stdout=output, stderr=subprocess.PIPE, env=environment, check=False)
    assert (result.returncode, result.stderr.decode()) == (0, "")


def test_start__restored_with_another_passphrase__stops_with_one_sentence(restored: Restored, tmp_path: Path) -> None:
    write_secret(tmp_path / "passphrase", secrets.token_urlsafe(32))
    changes = {"HESSIAN_PASSPHRASE_FILE": str(tmp_path / "passphrase"), "HESSIAN_PORT": str(free_port())}
    environment = {**restored.whole.stack.environment(LENDER), **changes}
    command = [sys.executable, "-m", LENDER.package]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    sentence = "lender-api stops: the passphrase in HESSIAN_PASSPHRASE_FILE does not open the keys in this database"
    assert (result.returncode, result.stderr.strip().splitlines()[-1]) == (1, sentence)


def test_start__restored_in_mid_training_and_rotated__the_keys_open_and_the_next_round_settles(restored: Restored) -> None:
    whole, stack, model_id = restored.whole, restored.whole.stack, restored.model_id
    rotate(stack)
    for service in SERVICES:
        stack.start_service(service)
    for service in SERVICES:
        stack.wait_for(service)

    second = whole.event(RoundSettled, model_id, 2)
    assert whole.events(RoundFailed, model_id) == []
    for owner in restored.owners:
        eventually(partial(owner.get, "/v1/contributions"), partial(is_settled_in, second.round_id))
    calls = whole.calls()
    assert (calls["reportRound"], calls["unlock"]) == (2, 4)


def test_start__lender_restored_from_before_its_first_round__the_rounds_come_back_and_the_last_one_settles(restored: Restored) -> None:
    whole, stack, model_id = restored.whole, restored.whole.stack, restored.model_id
    before = rounds_of(whole, 2)
    stop_all([stack.services.pop(LENDER.name)])
    with restored.older.open("rb") as dump:
        postgres_tool(stack, "pg_restore", "--clean", "--exit-on-error", f"--dbname={DATABASE}", given=dump.fileno())
    stack.start_service(LENDER)
    stack.wait_for(LENDER)

    third = whole.event(RoundSettled, model_id, 3)
    assert whole.events(RoundFailed, model_id) == []
    whole.event(ModelClosed, model_id, final=True)
    for owner in restored.owners:
        assert whole.contribution(owner, "settled")["round_id"] == third.round_id
    assert [known(entry) for entry in rounds_of(whole, 3)[:2]] == [known(entry) for entry in before[:2]]
    whole.withdraw(whole.lender, *restored.owners)
    calls = whole.calls()
    assert (calls["openRound"], calls["submitGradient"], calls["unlock"], calls["reportRound"]) == (3, 6, 6, 3)
    whole.require_conserved(model_id)


def is_settled_in(round_id: RoundId, page: dict[str, Any]) -> bool:
    """Whether an owner's contributions say that this round is settled."""
    return any(item["round_id"] == round_id and item["state"] == "settled" for item in page["items"])


def rounds_of(whole: WholeStack, count: int) -> list[dict[str, Any]]:
    """The lender's own rows of its only model's rounds, once so many are settled."""
    (model,) = whole.lender.get("/v1/models")["items"]

    def enough(page: dict[str, Any]) -> bool:
        return sum(entry["settled_at"] is not None for entry in page["items"]) >= count

    return list(eventually(partial(whole.lender.get, f"/v1/models/{model['id']}/rounds"), enough)["items"])


def known(entry: dict[str, Any]) -> dict[str, Any]:
    """What the chain knows of a round."""
    return {name: value for name, value in entry.items() if name != "created_at"}
