"""Contracts on a development chain: deployed with keys that are thrown away, or at addresses that are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from devstack.anvil import Anvil
from devstack.processes import ProcessFailed
from devstack.toolchain import compiled
from hessian.identifiers import Address, BlockNumber, Wei

MINIMUM_WINDOW = 10  # seconds; final takes 1.5 s on a development chain
_PURSE = Wei(10**18)
_DEPLOYER = Address("0x4865737369616e446576656c6f706D656e740000")  # "HessianDevelopment": nobody has its key, only anvil acts for it


class ContractDiffers(ProcessFailed):
    """The development chain holds another version of a contract."""


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


def _deploy(anvil: Anvil, contract: str, *arguments: object) -> Deployment:
    """Nobody owns a contract of ours, so the deploying key is forgotten at once."""
    data = _creation(contract, *arguments)
    deployer = anvil.new_account(_PURSE)
    price = int(anvil.call("eth_gasPrice"), 16)
    transaction: dict[str, Any] = {
        "type": 2, "chainId": anvil.chain_id, "nonce": 0, "gas": 12_000_000, "value": 0, "data": data,
        "maxFeePerGas": 2 * price, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    receipt = anvil.send(bytes(deployer.sign_transaction(transaction).raw_transaction))
    return Deployment(Address(to_checksum_address(receipt["contractAddress"])), BlockNumber(int(receipt["blockNumber"], 16)))


def fixed_address(place: int) -> Address:
    """Where the `place`-th contract of `deploy_fixed` lives, on every development chain: keccak(rlp([deployer, nonce])), EIP-161."""
    nonce = bytes([place]) if place else b"\x80"
    return Address(to_checksum_address(keccak(b"\xd6\x94" + bytes.fromhex(_DEPLOYER[2:]) + nonce)[-20:]))


def deploy_fixed(anvil: Anvil, minimum_window: int = MINIMUM_WINDOW) -> dict[str, Address]:
    """Deploy every contract that is not there yet, in this order, each at its fixed address. Raises ContractDiffers, ChainCallFailed."""
    repository = fixed_address(0)
    wanted: list[tuple[str, object]] = [("ModelRepository", minimum_window), ("ModelDeployment", repository)]
    anvil.call("anvil_impersonateAccount", _DEPLOYER)
    anvil.fund(_DEPLOYER, _PURSE)
    for place, (contract, argument) in enumerate(wanted):
        address = fixed_address(place)
        if not anvil.has_code(address):
            transaction = {
                "from": _DEPLOYER,
                "nonce": hex(place),
                "gas": hex(12_000_000),
                "data": "0x" + _creation(contract, argument).hex(),
            }
            anvil.mined(anvil.call("eth_sendTransaction", transaction))
        _require_same(anvil, contract, address)
    return {contract: fixed_address(place) for place, (contract, _) in enumerate(wanted)}


def _creation(contract: str, *arguments: object) -> bytes:
    """Creation code with the constructor's arguments."""
    artifact = compiled(contract)
    types = [parameter["type"] for entry in artifact["abi"] if entry["type"] == "constructor" for parameter in entry["inputs"]]
    return bytes.fromhex(artifact["bytecode"]["object"].removeprefix("0x")) + encode(types, arguments)


def _require_same(anvil: Anvil, contract: str, address: Address) -> None:
    """Compare with what was compiled, apart from the immutables that the constructor fills in."""
    built = compiled(contract)["deployedBytecode"]
    code = bytearray.fromhex(str(anvil.call("eth_getCode", address, "latest")).removeprefix("0x"))
    for span in (span for spans in built.get("immutableReferences", {}).values() for span in spans):
        code[span["start"] : span["start"] + span["length"]] = bytes(span["length"])
    if code != bytes.fromhex(built["object"].removeprefix("0x")):
        raise ContractDiffers(f"the development chain holds another {contract} at {address}: forget the chain (its volume) and start anew")
