"""One transaction: its gas, its fees, its signature, its way to the node.

Only the outbox uses this; whoever else wants to send writes a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from eth_account.signers.local import LocalAccount

from hessian.chain.binding import Call
from hessian.chain.blocks import BlockUnknown, NodeAnswerInvalid, Receipt, TransactionHash, hash_text, quantity
from hessian.chain.client import Chain
from hessian.chain.encoding import ContractRefused
from hessian.chain.rpc import NodeRefused
from hessian.errors import ChainUnavailable
from hessian.identifiers import Address

_ALREADY_KNOWN = re.compile(r"already known|already imported|known transaction|alreadyknown|already exists", re.IGNORECASE)
_NONCE_USED = re.compile(r"nonce (is )?too low|nonce too small|oldnonce|invalid nonce", re.IGNORECASE)
_INSUFFICIENT = re.compile(r"insufficient (funds|balance)", re.IGNORECASE)


GAS_RESERVE = 600_000
"""On top of the estimate, as far as the balance allows; what is not used is not paid. Work may fall to a transaction that others, mined
before it, leave to it: sealing a cohort of 64 makes a `join` cost 540 000 more than it was estimated at."""


class InsufficientFunds(ChainUnavailable):
    """The sender's balance does not cover the transaction: it waits until someone pays in."""


class Broadcast(StrEnum):
    """What the node said to the bytes."""

    ACCEPTED = "accepted"
    ALREADY_KNOWN = "already_known"
    NONCE_USED = "nonce_used"  # by these bytes, mined already, or by another transaction of the same key


@dataclass(frozen=True, slots=True)
class Quote:
    """What a transaction may use; the cap outlasts six full blocks of rising base fees."""

    gas: int
    fee_cap: int
    tip: int


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction as it leaves."""

    nonce: int
    raw: bytes
    transaction_hash: TransactionHash


class Sender:
    """EIP-1559 transactions (https://eips.ethereum.org/EIPS/eip-1559) on one chain. Raises ChainUnavailable everywhere."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def quote(self, sender: Address, call: Call) -> Quote:
        """Gas and fees at the head. Raises ContractRefused when the call would revert, InsufficientFunds."""
        request = self._chain.node.request
        try:
            least = quantity(await request("eth_estimateGas", _message(sender, call), "latest")) * 5 // 4
        except NodeRefused as error:
            if _INSUFFICIENT.search(error.message):
                raise InsufficientFunds(f"{sender} has not enough ether for this transaction") from error
            raise
        head = await request("eth_getBlockByNumber", "latest", False)
        base = quantity(head.get("baseFeePerGas") if isinstance(head, dict) else None)
        tip = quantity(await request("eth_maxPriorityFeePerGas"))
        fee_cap = 2 * base + tip
        balance = quantity(await request("eth_getBalance", sender, "latest"))
        spare = balance - call.value - least * fee_cap
        if spare < 0:
            raise InsufficientFunds(f"{sender} has {balance} wei and may need {balance - spare} for this transaction")
        return Quote(gas=least + min(GAS_RESERVE, spare // max(fee_cap, 1)), fee_cap=fee_cap, tip=tip)

    async def next_nonce(self, sender: Address) -> int:
        """How many of the sender's transactions are mined at the head."""
        return quantity(await self._chain.node.request("eth_getTransactionCount", sender, "latest"))

    async def final_nonce(self, sender: Address) -> int:
        """How many of the sender's transactions are final: lower nonces are decided for ever."""
        return quantity(await self._chain.node.request("eth_getTransactionCount", sender, "finalized"))

    def sign(self, account: LocalAccount, call: Call, quote: Quote, *, nonce: int) -> Signed:
        """The bytes that are the only ones ever to leave under this nonce."""
        signed = account.sign_transaction(
            {
                "type": 2,
                "chainId": self._chain.chain_id,
                "nonce": nonce,
                "to": bytes.fromhex(call.to[2:]),
                "data": call.data,
                "value": call.value,
                "gas": quote.gas,
                "maxFeePerGas": quote.fee_cap,
                "maxPriorityFeePerGas": quote.tip,
                "accessList": [],
            }
        )
        return Signed(nonce, bytes(signed.raw_transaction), TransactionHash("0x" + bytes(signed.hash).hex()))

    async def broadcast(self, signed: Signed) -> Broadcast:
        """Hand the bytes to the node; any number of times. Raises InsufficientFunds."""
        try:
            answer = await self._chain.node.request("eth_sendRawTransaction", "0x" + signed.raw.hex())
        except NodeRefused as error:
            if _ALREADY_KNOWN.search(error.message):
                return Broadcast.ALREADY_KNOWN
            if _NONCE_USED.search(error.message):
                return Broadcast.NONCE_USED
            if _INSUFFICIENT.search(error.message):
                raise InsufficientFunds from error
            raise
        if hash_text(answer) != signed.transaction_hash:
            raise NodeAnswerInvalid("the Ethereum node accepted a transaction under another hash")
        return Broadcast.ACCEPTED

    async def revert_reason(self, sender: Address, call: Call, receipt: Receipt) -> ContractRefused:
        """Why a mined transaction reverted: the call once more after its block, then before it."""
        for height in (receipt.block.number, receipt.block.number - 1):
            try:
                await self._chain.node.request("eth_call", _message(sender, call), hex(height))
            except ContractRefused as error:
                return error
            except (NodeRefused, BlockUnknown):
                continue  # the balance is gone now, or the node has forgotten that block: the reason is a courtesy, the lane is not
        return ContractRefused("Reverted", {"gasUsed": receipt.gas_used})


def _message(sender: Address, call: Call) -> dict[str, str]:
    return {"from": sender, "to": call.to, "data": "0x" + call.data.hex(), "value": hex(call.value)}
