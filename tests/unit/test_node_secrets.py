"""The step that gives a node its secrets: makes what a new node lacks, hands out copies, and never replaces what was there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hessian.service.node_secrets import ORIGINALS, SecretGone, hand_out, mounted, needs
from hessian.settings import BadSettings, read_secret

OWNER_NODE = ("postgres", "roles", "owner-api", "trainer", "coordinator")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    for name in (ORIGINALS, *OWNER_NODE, "lender-api"):  # not every folder is for somebody who is here
        (tmp_path / name).mkdir()
    return tmp_path


def files(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_hand_out__a_new_node__gives_each_service_its_own_secrets_and_no_other(node: Path) -> None:
    outcome = hand_out(node, OWNER_NODE, may_make=True)
    assert outcome.taken == ()
    assert files(node / "trainer") == {"coordinator.token", "trainer.token"}
    assert files(node / "coordinator") == {"admin.token", "coordinator.token", "coordinator.database-password"}
    assert files(node / "postgres") == {"postgres.database-password"}
    assert files(node / "roles") == {f"{name}.database-password" for name in ("postgres", "owner", "coordinator")}
    assert "lender.passphrase" not in outcome.made
    assert files(node / "lender-api") == set()
    contents = [read_secret(node / ORIGINALS / name) for name in outcome.made]
    assert len(set(contents)) == len(contents)
    assert all(len(content) >= 32 for content in contents)
    for place in (node / service for service in OWNER_NODE if service != "postgres"):
        assert all(read_secret(file) == read_secret(node / ORIGINALS / file.name) for file in place.iterdir())
    assert (node / "postgres" / "postgres.database-password").stat().st_mode & 0o777 == 0o640


def test_hand_out__again__changes_nothing(node: Path) -> None:
    made = hand_out(node, OWNER_NODE, may_make=True).made
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in node.rglob("*") if path.is_file()}
    outcome = hand_out(node, OWNER_NODE, may_make=True)
    assert (outcome.made, outcome.taken) == ((), made)
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in node.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("left", ["known", "copies"])
def test_hand_out__an_original_is_gone__stops_and_makes_no_other(node: Path, left: str) -> None:
    hand_out(node, OWNER_NODE, may_make=True)
    (node / ORIGINALS / "owner.passphrase").unlink()
    if left == "copies":
        (node / ORIGINALS / "known.json").unlink()
    with pytest.raises(SecretGone, match=r"owner\.passphrase .*gone.* restore it from your backup"):
        hand_out(node, OWNER_NODE, may_make=True)
    assert not (node / ORIGINALS / "owner.passphrase").exists()


def test_hand_out__an_original_was_replaced__is_how_a_secret_is_rotated(node: Path) -> None:
    hand_out(node, OWNER_NODE, may_make=True)
    (node / ORIGINALS / "trainer.token").write_text("another one, from outside\n", encoding="utf-8")
    hand_out(node, OWNER_NODE, may_make=True)
    assert {read_secret(node / service / "trainer.token") for service in ("trainer", "owner-api")} == {"another one, from outside"}


def test_hand_out__nothing_may_be_made__names_what_is_missing(node: Path) -> None:
    with pytest.raises(BadSettings, match=r"admin\.token is missing: put it there"):
        hand_out(node, OWNER_NODE, may_make=False)
    assert files(node / ORIGINALS) == set()


@pytest.mark.parametrize(("content", "says"), [(b"\n", "is empty"), (b"\xff\xfe", "something else than text")])
def test_hand_out__a_given_secret_is_no_secret__is_refused(node: Path, content: bytes, says: str) -> None:
    (node / ORIGINALS / "admin.token").write_bytes(content)
    with pytest.raises(BadSettings, match=says):
        hand_out(node, OWNER_NODE, may_make=True)
    assert not (node / "coordinator" / "admin.token").exists()


def test_hand_out__a_directory_that_is_not_there__says_so(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be read or written: No such file or directory"):
        hand_out(tmp_path / "nowhere", OWNER_NODE, may_make=True)


def test_needs__a_service_nobody_knows__is_refused() -> None:
    with pytest.raises(BadSettings, match="there is no service miner"):
        needs(["trainer", "miner"])


def test_hand_out__a_node_with_a_launcher__gives_its_token_to_the_launcher_and_the_trainer_alone(node: Path) -> None:
    (node / "launcher").mkdir()
    hand_out(node, (*OWNER_NODE, "launcher"), may_make=True)
    assert files(node / "launcher") == {"launcher.token"}
    assert [service for service in (*OWNER_NODE, "launcher") if "launcher.token" in files(node / service)] == ["trainer", "launcher"]


def test_mounted__folders_without_a_volume__are_nobodys(node: Path) -> None:
    with pytest.raises(BadSettings, match=r"no volume is mounted below .* name the services"):
        mounted(node)
