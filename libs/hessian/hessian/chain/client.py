"""The chain as everything above sees it: blocks, logs of final ranges, reads pinned to a block.

Nothing here reads "latest" for a decision: `final_block` is the newest block that may be acted on, `head_block` is for preflights and fees.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from hessian.chain.blocks import (
    Block,
    BlockUnknown,
    Log,
    NodeAnswerInvalid,
    Receipt,
    TransactionHash,
    block_from_rpc,
    hash_text,
    log_from_rpc,
    octets,
    quantity,
)
from hessian.chain.rpc import Node, NodeRefused
from hessian.errors import ChainDiverged
from hessian.identifiers import Address, BlockNumber, ChainId, Wei
from hessian.settings import BadSettings, ChainSettings

LARGEST_WINDOW = 2_000
POLL_SECONDS = 0.2

At = Block | BlockNumber
"""Where to read: a Block pins by hash (the read fails rather than see another branch), a number pins by height."""

_TOO_MUCH = re.compile(r"range|too (large|many|big|wide|long)|limit|exceed|more than|response size|time(d )?-?out", re.IGNORECASE)


class WrongChain(BadSettings):
    """The Ethereum node serves another chain."""


class ContractMissing(BadSettings):
    """There is no contract at this address."""


class Chain:
    """One node, one chain. Every answer is checked before it is believed."""

    def __init__(self, node: Node, chain_id: ChainId, *, poll_seconds: float = POLL_SECONDS, largest_window: int = LARGEST_WINDOW) -> None:
        self.node = node
        self.chain_id = chain_id
        self.poll_seconds = poll_seconds
        self._largest_window = largest_window
        self._window = largest_window

    async def final_block(self) -> Block:
        """The newest block that may be acted on. Raises ChainUnavailable."""
        return block_from_rpc(await self.node.request("eth_getBlockByNumber", "finalized", False))

    async def head_block(self) -> Block:
        """The tip; it may still vanish. Raises ChainUnavailable."""
        return block_from_rpc(await self.node.request("eth_getBlockByNumber", "latest", False))

    async def block(self, number: BlockNumber) -> Block:
        """The canonical block at a height. Raises BlockUnknown, ChainUnavailable."""
        answer = await self.node.request("eth_getBlockByNumber", hex(number), False)
        if answer is None:
            raise BlockUnknown(f"the Ethereum node does not know block {number}")
        block = block_from_rpc(answer)
        if block.number != number:
            raise NodeAnswerInvalid(f"the Ethereum node sent block {block.number} instead of {number}")
        return block

    async def require_canonical(self, block: Block) -> None:
        """Raises ChainDiverged when a block that was final is no longer part of the chain; a node that is merely behind is unavailable."""
        found = await self.block(block.number)
        if found.hash != block.hash:
            raise ChainDiverged(f"block {block.number} was final as {block.hash} and is now {found.hash}: finality was broken")

    async def wait_until_final(self, number: BlockNumber) -> Block:
        """The first final block seen at or above `number`. The only loop that polls for blocks. Raises ChainUnavailable."""
        while (block := await self.final_block()).number < number:  # noqa: ASYNC110  # the chain is no asyncio.Event
            await asyncio.sleep(self.poll_seconds)
        return block

    async def call(self, to: Address, data: bytes, at: At) -> bytes:
        """What a view answers at one block. Raises ContractRefused, BlockUnknown, ChainUnavailable."""
        return octets(await self.node.request("eth_call", {"to": to, "data": "0x" + data.hex()}, _pinned(at)))

    async def balance(self, account: Address, at: At) -> Wei:
        """An account's ether at one block. Raises ChainUnavailable."""
        return Wei(quantity(await self.node.request("eth_getBalance", account, _pinned(at))))

    async def has_code(self, account: Address, at: At) -> bool:
        """Whether a contract stands there. Raises ChainUnavailable."""
        return bool(octets(await self.node.request("eth_getCode", account, _pinned(at))))

    async def logs(self, address: Address, first: BlockNumber, last: BlockNumber) -> list[Log]:
        """Every log of one contract in the blocks first…last, in order, each checked against its canonical block.

        Ranges that the node calls too large are halved, and grow again. Raises ChainUnavailable, also for a node that lies.
        """
        logs: list[Log] = []
        start = int(first)
        while start <= last:
            end = min(start + self._window - 1, int(last))
            try:
                answer = await self.node.request("eth_getLogs", {"address": address, "fromBlock": hex(start), "toBlock": hex(end)})
            except NodeRefused as error:
                if end == start or not _TOO_MUCH.search(error.message):
                    raise
                self._window = max(1, (end - start + 1) // 2)
                continue
            logs += await self._checked_logs(answer, address, start, end)
            start = end + 1
            self._window = min(self._largest_window, self._window * 2)
        return logs

    async def _checked_logs(self, answer: Any, address: Address, first: int, last: int) -> list[Log]:
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise NodeAnswerInvalid
        blocks: dict[int, Block] = {}
        for number in sorted({quantity(item.get("blockNumber")) for item in answer}):
            if not first <= number <= last:
                raise NodeAnswerInvalid(f"the Ethereum node sent a log of block {number} when asked for {first} to {last}")
            blocks[number] = await self.block(BlockNumber(number))
        logs = [log_from_rpc(item, blocks[quantity(item.get("blockNumber"))]) for item in answer]
        if any(log.address != address for log in logs):
            raise NodeAnswerInvalid("the Ethereum node sent a log of another contract")
        places = [(log.place.block_number, log.place.log_index) for log in logs]
        if any(left >= right for left, right in pairwise(places)):
            raise NodeAnswerInvalid("the Ethereum node sent logs twice or out of order")
        return logs

    async def receipt(self, transaction: TransactionHash) -> Receipt | None:
        """The receipt in a canonical block, None while it is not in one. Raises ChainUnavailable."""
        answer = await self.node.request("eth_getTransactionReceipt", transaction)
        if answer is None or (isinstance(answer, dict) and answer.get("blockNumber") is None):
            return None
        if (
            not isinstance(answer, dict)
            or hash_text(answer.get("transactionHash")) != transaction
            or not isinstance(answer.get("logs"), list)
        ):
            raise NodeAnswerInvalid("the Ethereum node sent another transaction's receipt")
        block = await self.block(BlockNumber(quantity(answer.get("blockNumber"))))
        if hash_text(answer.get("blockHash")) != block.hash:
            return None  # it was in a block that is no longer canonical
        return Receipt(
            transaction_hash=transaction,
            block=block,
            succeeded=quantity(answer.get("status")) == 1,
            gas_used=quantity(answer.get("gasUsed")),
            logs=tuple(log_from_rpc(item, block) for item in answer["logs"]),
        )


@asynccontextmanager
async def open_chain(settings: ChainSettings) -> AsyncIterator[Chain]:
    """Connect for the life of a service. Raises WrongChain, ContractMissing (BadSettings), ChainUnavailable."""
    async with connect(str(settings.rpc_url), expected=ChainId(settings.chain_id)) as chain:
        await require_contracts(chain, [Address(settings.repository_address), Address(settings.deployment_address)])
        yield chain


@asynccontextmanager
async def connect(url: str, *, expected: ChainId | None = None, poll_seconds: float = POLL_SECONDS) -> AsyncIterator[Chain]:
    """Connect to a node, whatever contracts it has. Raises WrongChain, ChainUnavailable."""
    node = Node(url)
    try:
        found = ChainId(quantity(await node.request("eth_chainId")))
        if expected is not None and found != expected:
            raise WrongChain(f"the Ethereum node serves chain {found}, the settings say {expected}")
        yield Chain(node, found, poll_seconds=poll_seconds)
    finally:
        await node.close()


async def require_contracts(chain: Chain, addresses: Iterable[Address]) -> None:
    """Raises ContractMissing when an address of the settings has no code at the head."""
    head = await chain.head_block()
    for address in addresses:
        if not await chain.has_code(address, head):
            raise ContractMissing(f"there is no contract at {address} on chain {chain.chain_id}")


def _pinned(at: At) -> Any:
    return {"blockHash": at.hash, "requireCanonical": True} if isinstance(at, Block) else hex(at)
