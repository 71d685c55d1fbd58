"""`rotate-passphrase`: everything opens under the new passphrase alone, or nothing has changed; never while a service runs."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, select, update

from hessian.errors import KeyLost
from hessian.identifiers import Address
from hessian.postgres.engine import open_database
from hessian.postgres.rotation import rotate_passphrase
from hessian.postgres.vault import PassphraseUnchanged, Vault, VaultEmpty, _stretch, open_vault
from hessian.settings import DatabaseSettings
from owner_api.migration import migrate, require_head
from owner_api.owners.wallets import Wallets, rewrap_wallets
from owner_api.tables import Header, Owner

OLD, NEW, OTHER = "the old passphrase of a test", "the new passphrase of a test", "another passphrase altogether"
WORK = 4096
DONE = "the keys are under the new passphrase: put it in the place of the old one, then start the service\n"
ALREADY = DONE.replace("passphrase: put", "passphrase already: put")
FREE = "select pg_try_advisory_xact_lock(hashtextextended('public in use', 0))"
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@dataclass
class Node:
    """An owner's database with a vault and two wallets, and what its command line reads."""

    url: str
    directory: Path
    environment: dict[str, str]
    addresses: list[Address]
    sealed: bytes
    derived: bytes

    def rotate(self) -> subprocess.Popen[str]:
        """The command, under way."""
        command = [sys.executable, "-m", "owner_api", "rotate-passphrase", str(self.directory / "new")]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rotated(self) -> tuple[int | None, str]:
        """Its code and its words, which hold no passphrase."""
        process = self.rotate()
        said = "".join(process.communicate(timeout=60))
        assert not any(passphrase in said for passphrase in (OLD, NEW, OTHER))
        return process.returncode, said

    async def rotated_here(self) -> str:
        """What the command does, without a process of its own."""
        also = partial(rewrap_wallets, work=WORK)
        return await rotate_passphrase(self.url, Header, OLD, NEW, require_head=require_head, also=also)

    async def require_opened_by(self, passphrase: str) -> None:
        """What was sealed, what was derived and both wallets are as they were."""
        async with open_database(self.url) as database:
            async with database.begin() as session:
                vault = await open_vault(session, Header, passphrase)
            assert (vault.open("test", "1", self.sealed), vault.derive("files")) == (b"secret", self.derived)
            wallets = Wallets(database, passphrase, work=WORK)
            assert [str((await wallets.signer_of(address)).address) for address in self.addresses] == self.addresses


@pytest.fixture
async def node(database_settings: DatabaseSettings, database_url: str, tmp_path: Path) -> Node:
    for name, text in (("old", OLD), ("new", NEW)):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text, encoding="utf-8")
    address = "0x" + 20 * "11"
    values = {
        "port": "0", "database_url": database_settings.database_url, "database_password_file": database_settings.database_password_file,
        "passphrase_file": tmp_path / "old", "keystore_work": WORK, "data_directory": tmp_path, "chain_id": 1,
        "repository_address": address, "deployment_address": address,
        **dict.fromkeys(("rpc_url", "ipfs_url", "trainer_url"), "http://127.0.0.1:1"),
        **{f"{role}_token_file": tmp_path / "nowhere" for role in ("admin", "coordinator", "trainer")},
    }  # fmt: skip
    environment = {"PATH": os.environ["PATH"], **{f"HESSIAN_{name.upper()}": str(value) for name, value in values.items()}}
    migrate(database_url)
    async with open_database(database_url) as database, database.begin() as session:
        vault = await open_vault(session, Header, OLD)
        wallets, addresses = Wallets(database, OLD, work=WORK), list[Address]()
        for number in range(2):
            made, keystore = await wallets.create()
            session.add(Owner(name=f"owner {number}", address=made, keystore=keystore, token_hash=secrets.token_bytes(32)))
            addresses.append(made)
    return Node(database_url, tmp_path, environment, addresses, vault.seal("test", "1", b"secret"), vault.derive("files"))


async def test_rotate__service_stopped__all_keys_open_under_the_new_passphrase_alone(node: Node) -> None:
    assert node.rotated() == (0, DONE)
    await node.require_opened_by(NEW)
    with pytest.raises(KeyLost):
        await node.require_opened_by(OLD)
    assert await node.rotated_here() == ALREADY.strip()


async def test_rotate__service_runs__is_refused_and_nothing_changes(node: Node) -> None:
    async with open_database(node.url) as service:
        await service.ping()
        code, said = node.rotated()
    assert (code, said) == (1, "owner-api stops: A service runs on this database: stop it first.\n")
    await node.require_opened_by(OLD)


async def test_rotate__old_passphrase_wrong__is_refused_and_nothing_changes(node: Node) -> None:
    with pytest.raises(KeyLost, match="does not open the keys in this database"):
        await rotate_passphrase(node.url, Header, OTHER, NEW, require_head=require_head)
    await node.require_opened_by(OLD)


async def test_rotate__killed_before_its_commit__the_old_passphrase_opens_and_it_can_be_run_again(node: Node) -> None:
    place = make_url(node.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(place) as holder, psycopg.connect(place, autocommit=True) as observer:
        holder.execute("select 1 from owners for update")  # the header is written by then, and not committed
        with node.rotate() as process:
            try:
                until(lambda: observer.execute(WAITING).fetchone() == (1,))
            finally:
                process.kill()
        holder.rollback()
        until(lambda: observer.execute(FREE).fetchone() == (True,))
    await node.require_opened_by(OLD)
    assert await node.rotated_here() == DONE.strip()
    await node.require_opened_by(NEW)


async def test_rotate__vault_from_before_its_key_was_wrapped__keeps_its_key(node: Node) -> None:
    salt = secrets.token_bytes(16)
    ancient = Vault(_stretch(OLD, salt))
    async with open_database(node.url) as database, database.begin() as session:
        check = ancient.seal("check", "header", b"hessian vault 1")
        await session.execute(update(Header).values(salt=salt, wrapped_key=None, check=check))
    node.sealed, node.derived = ancient.seal("test", "1", b"secret"), ancient.derive("files")
    await node.require_opened_by(OLD)
    assert await node.rotated_here() == DONE.strip()
    await node.require_opened_by(NEW)


async def test_rotate__nothing_to_change__is_refused(node: Node) -> None:
    with pytest.raises(PassphraseUnchanged):
        await rotate_passphrase(node.url, Header, OLD, OLD, require_head=require_head)
    async with open_database(node.url) as database, database.begin() as session:
        await session.delete((await session.execute(select(Header))).scalar_one())
    with pytest.raises(VaultEmpty):
        await rotate_passphrase(node.url, Header, OLD, NEW, require_head=require_head)


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Poll until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
