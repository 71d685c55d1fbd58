"""The embedded Postgres, chain and block store behave as the services' tests expect of them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import aioipfs
import httpx
import psutil
import psycopg
import pytest
from eth_utils.abi import function_signature_to_4byte_selector

from devstack.anvil import FINALITY_BLOCKS, Anvil
from devstack.block_store import MAX_BLOCK
from devstack.contracts import Deployment
from devstack.postgres import Postgres
from devstack.processes import Child, ProcessFailed, free_port
from hessian.identifiers import Address, Wei


def test_start__the_server_was_killed_and_is_a_zombie__starts_again_with_its_data(tmp_path: Path) -> None:
    first = Postgres(tmp_path / "pg", tmp_path / "log", durable=False)
    first.start()
    first.create_database("kept")
    assert first.child is not None
    assert first.child.pid is not None
    os.kill(first.child.pid, signal.SIGKILL)  # nobody waits for it: it stays a zombie
    second = Postgres(tmp_path / "pg", tmp_path / "log", durable=False)
    second.start()
    try:
        with second.connect("kept") as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        second.stop()
        first.stop()
        second.delete()


def test_give_schema__another_role_looks_into_it__is_refused(postgres_server: Postgres, database_url: str) -> None:
    database = database_url.rpartition("/")[2]
    for role in ("alpha", "beta"):
        postgres_server.give_schema(database, role, role + "-password")
    with psycopg.connect(postgres_server.url(database, "alpha", "alpha-password", driver="postgresql")) as alpha:
        alpha.execute("create table secrets (word text)")
    with psycopg.connect(postgres_server.url(database, "beta", "beta-password", driver="postgresql")) as beta:
        assert beta.execute("select to_regclass('secrets')").fetchone() == (None,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            beta.execute("select * from alpha.secrets")


def test_connect__wrong_password__is_refused(postgres_server: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres_server.url("postgres", "hessian", "guess", driver="postgresql"))


def test_start__kept_chain_was_killed__loses_no_final_block_and_no_balance(tmp_path: Path) -> None:
    node = Anvil(tmp_path / "log", block_time=0.05, state=tmp_path / "chain.json")
    node.start()
    sender, receiver = node.new_account(), Address("0x" + "11" * 20)
    transfer: dict[str, Any] = {"type": 2, "chainId": node.chain_id, "nonce": 0, "gas": 21_000, "to": receiver, "value": 7}
    receipt = node.send(bytes(sender.sign_transaction(transfer | {"maxFeePerGas": 2 * 10**10, "maxPriorityFeePerGas": 1}).raw_transaction))
    until = time.monotonic() + 10
    while node.final() < int(receipt["blockNumber"], 16):
        assert time.monotonic() < until
    final = node.call("eth_getBlockByNumber", "finalized", False)
    assert node.child is not None
    assert node.child.pid is not None
    os.kill(node.child.pid, signal.SIGKILL)
    node.stop()
    again = Anvil(tmp_path / "log", block_time=0.05, state=tmp_path / "chain.json")
    again.start()
    try:
        assert again.call("eth_getBlockByNumber", final["number"], False)["hash"] == final["hash"]
        assert again.balance(receiver) == 7
        assert again.call("eth_getTransactionReceipt", receipt["transactionHash"])["blockHash"] == receipt["blockHash"]
        assert again.final() >= int(final["number"], 16)
        assert again.call("eth_getBalance", receiver, hex(again.final())) == "0x7"
    finally:
        again.stop()


def test_keep__the_chain_can_no_longer_be_saved__the_node_ends_instead_of_standing_still(tmp_path: Path) -> None:
    place = tmp_path / "chain"
    place.mkdir()
    node = Anvil(tmp_path / "log", block_time=0.05, state=place / "chain.json")
    node.start()
    try:
        shutil.rmtree(place)
        assert node.child is not None
        until = time.monotonic() + 20
        while node.child.is_alive:
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        node.stop()


def test_move_time__one_day__head_and_final_block_are_past_it(fresh_anvil: Anvil) -> None:
    before = int(fresh_anvil.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    fresh_anvil.move_time(86_400)
    assert int(fresh_anvil.call("eth_getBlockByNumber", "finalized", False)["timestamp"], 16) >= before + 86_400
    assert fresh_anvil.head() - fresh_anvil.final() == FINALITY_BLOCKS


def test_fund__any_account__has_exactly_that(anvil: Anvil) -> None:
    account = Address("0x" + "22" * 20)
    anvil.fund(account, Wei(5))
    assert anvil.balance(account) == 5
    assert anvil.call("eth_accounts") == []


def test_give__an_account_that_has_some__has_so_much_more(anvil: Anvil) -> None:
    account = Address(anvil.new_account(Wei(5)).address)
    anvil.give(account, Wei(10**18))
    assert anvil.balance(account) == 10**18 + 5


async def test_add_bytes__up_to_one_mebibyte__comes_back_pinned(block_store: str) -> None:
    async with aioipfs.AsyncIPFS(maddr=f"/ip4/127.0.0.1/tcp/{block_store.rpartition(':')[2]}") as client:
        for data in (b"", b"x", os.urandom(MAX_BLOCK)):
            added = await client.core.add_bytes(data, cid_version=1, raw_leaves=True, pin=True, chunker="size-1048576")
            assert await client.core.cat(added["Hash"]) == data
            assert added["Hash"] in (await client.pin.ls(added["Hash"]))["Keys"]
        assert (await client.pin.rm(added["Hash"]))["Pins"] == [added["Hash"]]
        with pytest.raises(aioipfs.NotPinnedError):
            await client.pin.rm(added["Hash"])
        assert [entry async for entry in client.pin.add(added["Hash"])] == [{"Pins": [added["Hash"]]}]


OPTIONS = "cid-version=1&raw-leaves=true&chunker=size-1048576"


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (f"add?{OPTIONS}", {"file": b"x" * (MAX_BLOCK + 1)}),
        ("add?cid-version=0", {"file": b"x"}),
        ("add?cid-version=1&raw-leaves=true", {"file": b"x" * 300_000}),
        (f"add?{OPTIONS}", {"file": b"x", "other": b"y"}),
        (f"add?{OPTIONS}", None),
        ("cat?arg=bafkreieaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", None),
        ("cat?arg=../../etc/passwd", None),
        ("cat", None),
        ("pin/ls?arg=QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", None),
    ],
)
def test_call__outside_the_subset__answers_as_kubo_reports_errors(block_store: str, call: str, body: dict[str, bytes] | None) -> None:
    answer = httpx.post(f"{block_store}/api/v0/{call}", files=body, trust_env=False)
    assert answer.status_code == 500
    assert answer.json()["Type"] == "error"
    assert answer.json()["Message"]


def test_call__with_get__is_not_allowed(block_store: str) -> None:
    assert httpx.get(f"{block_store}/api/v0/id", trust_env=False).status_code == 405


def test_require_alive__the_process_ended__tells_how_and_shows_its_last_words(tmp_path: Path) -> None:
    child = Child("speaker", ["/bin/sh", "-c", "echo last words; exit 3"], tmp_path / "log")
    child.start()
    assert child.process is not None
    child.process.wait()
    with pytest.raises(ProcessFailed, match=r"(?s)exit code 3.*last words"):
        child.require_alive()


def test_stop__the_process_ignores_the_signal__kills_it_and_its_children(tmp_path: Path) -> None:
    child = Child("stubborn", ["/bin/sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"], tmp_path / "log")
    child.start()
    until = time.monotonic() + 5
    while not (tmp_path / "log").read_text().strip():
        assert time.monotonic() < until
    child.stop(grace=0.2)
    grandchild = int((tmp_path / "log").read_text())
    assert not child.is_alive
    until = time.monotonic() + 5
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until


def test_free_port__preferred_is_taken__gives_another(block_store: str) -> None:
    taken = int(block_store.rpartition(":")[2])
    assert free_port(taken) != taken


def test_deploy_repository__on_an_empty_chain__has_code_and_its_minimum_window(fresh_anvil: Anvil, fresh_repository: Deployment) -> None:
    assert fresh_anvil.has_code(fresh_repository.address)
    selector = "0x" + function_signature_to_4byte_selector("minimumWindow()").hex()
    answer = fresh_anvil.call("eth_call", {"to": fresh_repository.address, "data": selector}, "latest")
    assert int(answer, 16) == 2
