"""What a service does before it serves: reads secrets that are its own, waits for neighbours for as long as told, and no longer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from hessian.errors import ChainUnavailable, DatabaseUnavailable, HessianError
from hessian.postgres.engine import database_url, unavailable
from hessian.service import process
from hessian.service.process import opened
from hessian.settings import BadSettings, DatabaseSettings, read_secret

PASSWORD = "a password that nobody else knows"


class World:
    """Opens at the attempt after the last of `failures`."""

    def __init__(self, *failures: HessianError) -> None:
        self.failures, self.attempts, self.is_open = list(failures), 0, False

    def open(self) -> AbstractAsyncContextManager[World]:
        @asynccontextmanager
        async def world() -> AsyncIterator[World]:
            self.attempts += 1
            if self.failures:
                raise self.failures.pop(0)
            self.is_open = True
            yield self
            self.is_open = False

        return world()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_AGAIN_SECONDS", 0.0)


async def test_opened__neighbours_answer_at_last__opens_once_and_closes() -> None:
    world = World(DatabaseUnavailable(), ChainUnavailable())
    async with opened(world.open, asyncio.Event(), seconds=30.0) as found:
        assert (found is world, world.is_open, world.attempts) == (True, True, 3)
    assert not world.is_open


@pytest.mark.parametrize(
    ("error", "seconds", "is_told_to_stop"),
    [(ChainUnavailable("gone"), 0.0, False), (ChainUnavailable("gone"), 30.0, True), (BadSettings("wrong"), 30.0, False)],
)
async def test_opened__time_is_up_or_waiting_is_no_use__raises_at_once(error: HessianError, seconds: float, is_told_to_stop: bool) -> None:
    stop, world = asyncio.Event(), World(error)
    if is_told_to_stop:
        stop.set()
    with pytest.raises(type(error), match=error.sentence):
        async with opened(world.open, stop, seconds=seconds):
            pass
    assert world.attempts == 1


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_read_secret__others_can_read_it__is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(BadSettings, match="can be read by other users"):
        read_secret(secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lend a file to a group it is not in")
@pytest.mark.parametrize(
    ("mode", "group", "is_read"), [(0o440, 4711, True), (0o444, 4711, False), (0o460, 4711, False), (0o440, 4712, False)]
)
def test_read_secret__root_lends_it_to_a_group__is_read_by_a_process_of_that_group_alone(
    secret: Path, monkeypatch: pytest.MonkeyPatch, mode: int, group: int, is_read: bool
) -> None:
    os.chown(secret, 0, group)
    secret.chmod(mode)
    monkeypatch.setattr(os, "getegid", lambda: 4711)
    try:
        assert (read_secret(secret), is_read) == (PASSWORD, True)
    except BadSettings:
        assert not is_read


@pytest.mark.parametrize(
    "url", ["", "nonsense", "postgresql://a@b/c", "postgresql+psycopg://a:word@b/c", "postgresql+psycopg://a@b:port/c"]
)
def test_database_url__not_as_it_should_be__is_refused_without_quoting_it(secret: Path, url: str) -> None:
    with pytest.raises(BadSettings, match="HESSIAN_DATABASE_URL") as caught:
        database_url(DatabaseSettings(database_url=url, database_password_file=secret))
    assert "word@" not in caught.value.sentence


def test_database_url__as_it_should_be__gets_the_password_from_the_file(secret: Path) -> None:
    settings = DatabaseSettings(database_url="postgresql+psycopg://a@b:1/c", database_password_file=secret)
    assert database_url(settings).password == PASSWORD


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ('FATAL: password authentication failed for user "owner"', "does not let this service in (password authentication failed)"),
        ('FATAL: database "hessian" does not exist', 'does not let this service in (database "hessian" does not exist)'),
        ("connection refused", "does not answer."),
    ],
)
def test_unavailable__by_what_postgres_said__tells_a_closed_door_from_an_empty_house(said: str, says: str) -> None:
    assert unavailable(OSError(said)).sentence.removeprefix("Postgres ").startswith(says)
