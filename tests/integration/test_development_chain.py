"""The composed stack's chain: contracts at addresses that are known beforehand, deployed once, and a chain that is found again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from devstack.anvil import Anvil
from devstack.contracts import ContractDiffers, deploy_fixed, fixed_address
from devstack.processes import Child, answers, free_port, wait_until
from hessian.identifiers import Address, Wei


def test_deploy_fixed__twice__leaves_every_contract_where_its_address_was_foretold(fresh_anvil: Anvil, built_contracts: Path) -> None:
    first = deploy_fixed(fresh_anvil)
    blocks = fresh_anvil.head()
    assert deploy_fixed(fresh_anvil) == first
    assert fresh_anvil.head() == blocks
    assert list(first.values()) == [fixed_address(place) for place in range(len(first))]
    assert all(fresh_anvil.has_code(address) for address in first.values())


def test_deploy_fixed__another_version_lives_there__says_so_and_deploys_nothing(fresh_anvil: Anvil, built_contracts: Path) -> None:
    fresh_anvil.call("anvil_setCode", fixed_address(0), "0x6001")
    blocks = fresh_anvil.head()
    with pytest.raises(ContractDiffers, match=r"another ModelRepository .* start anew"):
        deploy_fixed(fresh_anvil)
    assert fresh_anvil.head() == blocks


def test_serve__killed_and_started_again__has_the_same_chain(tmp_path: Path, built_contracts: Path) -> None:
    started: list[Child] = []

    def start() -> tuple[Child, Anvil]:
        port = free_port()
        command = [sys.executable, "-m", "devstack.development_chain", "serve", str(port), str(tmp_path / "state.json")]
        child = Child("chain", command, tmp_path / "chain.log")
        started.append(child)
        child.start()
        wait_until(lambda: answers("127.0.0.1", port), child, seconds=60.0)
        return child, Anvil(tmp_path / "unused.log", port=port)

    try:
        first, anvil = start()
        with anvil.attached():
            account = anvil.new_account(Wei(5))
            addresses = deploy_fixed(anvil)
            deployed_in = anvil.head()
            wait_until(lambda: anvil.final() >= deployed_in, first, seconds=60.0)
        assert first.process is not None
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(30)
        second, anvil = start()
        with anvil.attached():
            assert deploy_fixed(anvil) == addresses
            assert anvil.balance(Address(account.address)) == 5
        second.ask_to_stop()
        assert second.process is not None
        assert second.process.wait(60) == 0
    finally:
        for child in started:
            child.stop()


def test_stop__old_blocks_were_written_to_disk__leaves_nothing_of_them(tmp_path: Path) -> None:
    states = tmp_path / "chain.states"
    chain = Anvil(tmp_path / "chain.log", block_time=0)
    chain.start()
    chain.mine(2_000)
    assert any(path.is_file() for path in states.rglob("*"))
    chain.stop()
    assert not states.exists()
