"""What the node says about blocks, logs and transactions, parsed once and strictly: nothing foreign travels further unparsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType

from eth_utils.address import is_address, to_checksum_address

from hessian.errors import ChainUnavailable
from hessian.identifiers import Address, BlockNumber, Timestamp
from hessian.metrics import RPC_BAD

BlockHash = NewType("BlockHash", str)
"""`0x` + 64 lower-case hexadecimal digits."""

TransactionHash = NewType("TransactionHash", str)
"""`0x` + 64 lower-case hexadecimal digits."""


class BadAnswer(ChainUnavailable):
    """An answer of the Ethereum node that is of no use; counted where it is made, for every check of one ends in this."""

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence)
        RPC_BAD.labels(kind=type(self).__name__).inc()


class NodeAnswerInvalid(BadAnswer):
    """The Ethereum node answered with something that cannot be true."""


class BlockUnknown(BadAnswer):
    """The Ethereum node does not know this block: it is behind, or the block is no longer part of the chain."""


@dataclass(frozen=True, slots=True)
class Block:
    """A header, as far as anybody here needs it."""

    number: BlockNumber
    hash: BlockHash
    parent_hash: BlockHash
    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where an event stands. (block_hash, log_index) is unique; the number alone is not, before finality."""

    block_number: BlockNumber
    block_hash: BlockHash
    log_index: int
    transaction_hash: TransactionHash
    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class Log:
    """A raw log of a known block."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    place: EventPlace


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction inside a block that was canonical when this was read."""

    transaction_hash: TransactionHash
    block: Block
    succeeded: bool
    gas_used: int
    logs: tuple[Log, ...]


def quantity(value: Any) -> int:
    """A JSON-RPC quantity. Raises NodeAnswerInvalid."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise NodeAnswerInvalid("the Ethereum node sent something else where a number belongs")
    try:
        return int(value, 16)
    except ValueError as error:
        raise NodeAnswerInvalid("the Ethereum node sent something else where a number belongs") from error


def octets(value: Any, *, length: int | None = None) -> bytes:
    """JSON-RPC bytes, of exactly `length` where given. Raises NodeAnswerInvalid."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise NodeAnswerInvalid("the Ethereum node sent something else where bytes belong")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError as error:
        raise NodeAnswerInvalid("the Ethereum node sent something else where bytes belong") from error
    if length is not None and len(data) != length:
        raise NodeAnswerInvalid(f"the Ethereum node sent {len(data)} bytes where {length} belong")
    return data


def hash_text(value: Any) -> str:
    """32 bytes as lower-case hexadecimal text. Raises NodeAnswerInvalid."""
    return "0x" + octets(value, length=32).hex()


def address_of(value: Any) -> Address:
    """An account in checksum form. Raises NodeAnswerInvalid."""
    if not is_address(value):
        raise NodeAnswerInvalid("the Ethereum node sent something else where an address belongs")
    return Address(str(to_checksum_address(value)))


def block_from_rpc(answer: Any) -> Block:
    """Parse a header. Raises NodeAnswerInvalid."""
    fields = _object(answer)
    return Block(
        number=BlockNumber(quantity(fields.get("number"))),
        hash=BlockHash(hash_text(fields.get("hash"))),
        parent_hash=BlockHash(hash_text(fields.get("parentHash"))),
        timestamp=Timestamp(quantity(fields.get("timestamp"))),
    )


def log_from_rpc(answer: Any, block: Block) -> Log:
    """Parse a log that claims to stand in `block`. Raises NodeAnswerInvalid when it does not, or was removed."""
    fields = _object(answer)
    if fields.get("removed"):
        raise NodeAnswerInvalid("the Ethereum node sent a log that it calls removed")
    if quantity(fields.get("blockNumber")) != block.number or hash_text(fields.get("blockHash")) != block.hash:
        raise NodeAnswerInvalid(f"the Ethereum node sent a log of another block as one of block {block.number}")
    topics = fields.get("topics")
    if not isinstance(topics, list) or len(topics) > 4:
        raise NodeAnswerInvalid("the Ethereum node sent a log without topics")
    return Log(
        address=address_of(fields.get("address")),
        topics=tuple(octets(topic, length=32) for topic in topics),
        data=octets(fields.get("data")),
        place=EventPlace(
            block_number=block.number,
            block_hash=block.hash,
            log_index=quantity(fields.get("logIndex")),
            transaction_hash=TransactionHash(hash_text(fields.get("transactionHash"))),
            timestamp=block.timestamp,
        ),
    )


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise NodeAnswerInvalid
    return answer
