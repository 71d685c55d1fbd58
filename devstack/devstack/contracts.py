"""Contracts on this machine: make `ModelRepository` and `ModelDeployment` with keys that are thrown away."""

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
    """`ModelRepository`, with this shortest window in seconds."""
    return _deploy(anvil, "ModelRepository", minimum_window)


def deploy_serving(anvil: Anvil, repository: Deployment) -> Deployment:
    """`ModelDeployment` for the models of this repository."""
    return _deploy(anvil, "ModelDeployment", repository.address)


def _deploy(anvil: Anvil, contract: str, *arguments: Any) -> Deployment:
    """Nobody owns a contract of ours, so the deploying key is forgotten at once."""
    artifact = compiled(contract)
    types = [parameter["type"] for entry in artifact["abi"] if entry["type"] == "constructor" for parameter in entry["inputs"]]
    data = bytes.fromhex(artifact["bytecode"]["object"].removeprefix("0x")) + encode(types, arguments)
    deployer = anvil.new_account(_PURSE)
    price = int(anvil.call("eth_gasPrice"), 16)
    transaction: dict[str, Any] = {
        "type": 2, "chainId": anvil.chain_id, "nonce": 0, "gas": 12_000_000, "value": 0, "data": data,
        "maxFeePerGas": 2 * price, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    receipt = anvil.send(bytes(deployer.sign_transaction(transaction).raw_transaction))
    return Deployment(Address(to_checksum_address(receipt["contractAddress"])), BlockNumber(int(receipt["blockNumber"], 16)))
