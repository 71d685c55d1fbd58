"""What both contracts' bindings have in common: reads at one block, calls for the outbox to sign, credits, the shortest window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from hessian.chain.client import At, Chain
from hessian.chain.encoding import contract_abi
from hessian.identifiers import Address, Wei


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction does: who is called, with which bytes and how much ether."""

    to: Address
    data: bytes
    value: Wei = Wei(0)  # noqa: RUF009  # a NewType is its int


class ContractBinding:
    """One contract at one address.

    Reads take the block to read at and raise ContractRefused, BlockUnknown or ChainUnavailable besides what they name. Everything that
    writes only builds a `Call`: it leaves through the outbox.
    """

    def __init__(self, contract: str, chain: Chain, address: Address) -> None:
        """`contract`: the name of its ABI."""
        self.chain = chain
        self.address = Address(str(to_checksum_address(address)))
        self._abi = contract_abi(contract)

    async def credit_of(self, account: Address, at: At) -> Wei:
        """What an account may withdraw."""
        return Wei(await self._read("creditOf", account, at=at))

    async def minimum_window(self, at: At) -> int:
        """The shortest window that this contract accepts, in seconds."""
        return int(await self._read("minimumWindow", at=at))

    def withdraw(self) -> Call:
        """`withdraw`: the sender's own credits."""
        return self._call("withdraw")

    async def _totals(self, at: At) -> tuple[Wei, ...]:
        view = await self.chain.call(self.address, self._abi.encode_call("totals"), at)
        return tuple(map(Wei, self._abi.decode_result("totals", view)))

    async def _read(self, function: str, *arguments: Any, at: At) -> Any:
        view = await self.chain.call(self.address, self._abi.encode_call(function, *arguments), at)
        return self._abi.decode_result(function, view)[0]

    def _call(self, function: str, *arguments: Any, value: Wei = Wei(0)) -> Call:  # noqa: B008  # a NewType is its int
        return Call(self.address, self._abi.encode_call(function, *arguments), value)
