"""Contracts on this machine: deploy `ModelRepository` with a key that is thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from devstack.anvil import Anvil
from devstack.toolchain import compiled
from hessian.identifiers import Address, BlockNumber, Wei

_PURSE = Wei(10**18)


@dataclass(frozen=True)
class Deployment:
    """Where a contract lives and since which block."""

    address: Address
    block: BlockNumber


def deploy_repository(anvil: Anvil, minimum_window: int) -> Deployment:
    """Deploy `ModelRepository`; nobody owns it, so the deploying key is forgotten at once."""
    artifact = compiled("ModelRepository")
    types = [parameter["type"] for entry in artifact["abi"] if entry["type"] == "constructor" for parameter in entry["inputs"]]
    data = bytes.fromhex(artifact["bytecode"]["object"].removeprefix("0x")) + encode(types, [minimum_window])
    deployer = anvil.new_account(_PURSE)
    price = int(anvil.call("eth_gasPrice"), 16)
    transaction: dict[str, Any] = {
        "type": 2, "chainId": anvil.chain_id, "nonce": 0, "gas": 12_000_000, "value": 0, "data": data,
        "maxFeePerGas": 2 * price, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    receipt = anvil.send(bytes(deployer.sign_transaction(transaction).raw_transaction))
    return Deployment(Address(to_checksum_address(receipt["contractAddress"])), BlockNumber(int(receipt["blockNumber"], 16)))
