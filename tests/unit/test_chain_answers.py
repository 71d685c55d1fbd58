"""What a node may say, and what is not believed: scripted answers instead of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from hessian.chain.blocks import Block, BlockUnknown, NodeAnswerInvalid, TransactionHash, address_of, block_from_rpc, octets, quantity
from hessian.chain.client import Chain
from hessian.chain.encoding import ContractRefused, refusal
from hessian.chain.rpc import Node, NodeRefused
from hessian.errors import ChainDiverged
from hessian.identifiers import Address, BlockNumber, ChainId

CONTRACT = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
OTHER = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")


def block_answer(number: int, branch: int = 0) -> dict[str, Any]:
    return {
        "number": hex(number),
        "hash": hash_of(number, branch),
        "parentHash": hash_of(number - 1, branch),
        "timestamp": hex(1000 + number),
    }


def hash_of(number: int, branch: int = 0) -> str:
    return "0x" + keccak(text=f"{branch}:{number}").hex()


def log_answer(number: int, index: int, **changes: Any) -> dict[str, Any]:
    return {
        "address": CONTRACT.lower(),
        "topics": ["0x" + "11" * 32],
        "data": "0x",
        "blockNumber": hex(number),
        "blockHash": hash_of(number),
        "logIndex": hex(index),
        "transactionHash": "0x" + "22" * 32,
        "removed": False,
    } | changes


class ScriptedNode(Node):
    """Answers from functions by method name; remembers what it was asked."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        self.answers = {"eth_getBlockByNumber": lambda number, _full: block_answer(int(number, 16))} | answers
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    async def request(self, method: str, *parameters: Any) -> Any:
        self.asked.append((method, parameters))
        return self.answers[method](*parameters)


def chain_on(**answers: Callable[..., Any]) -> Chain:
    return Chain(ScriptedNode(**answers), ChainId(1))


async def logs_of(*answer: dict[str, Any]) -> Any:
    return await chain_on(eth_getLogs=lambda _: list(answer)).logs(CONTRACT, BlockNumber(5), BlockNumber(9))


async def test_logs__honest_answer__is_parsed_in_order_with_block_times() -> None:
    logs = await logs_of(log_answer(5, 0), log_answer(5, 2), log_answer(9, 0))
    assert [(log.place.block_number, log.place.log_index, log.place.timestamp) for log in logs] == [
        (5, 0, 1005),
        (5, 2, 1005),
        (9, 0, 1009),
    ]
    assert logs[0].address == CONTRACT


@pytest.mark.parametrize(
    "answer",
    [
        [log_answer(4, 0)],
        [log_answer(10, 0)],
        [log_answer(5, 0, blockHash=hash_of(5, branch=1))],
        [log_answer(5, 0), log_answer(5, 0)],
        [log_answer(5, 1), log_answer(5, 0)],
        [log_answer(6, 0), log_answer(5, 0)],
        [log_answer(5, 0, address=OTHER)],
        [log_answer(5, 0, removed=True)],
        [log_answer(5, 0, topics=["0x11"])],
        [log_answer(5, 0, topics=None)],
        [log_answer(5, 0, data="11")],
        [log_answer(5, 0, logIndex=None)],
        [log_answer(5, 0, logIndex=0)],
        [{}],
        ["log"],
    ],
    ids=str,
)
async def test_logs__answer_that_cannot_be_true__is_not_believed(answer: list[dict[str, Any]]) -> None:
    with pytest.raises(NodeAnswerInvalid):
        await logs_of(*answer)


@pytest.mark.parametrize("answer", [None, {}, "0x"])
async def test_logs__no_list__is_not_believed(answer: Any) -> None:
    with pytest.raises(NodeAnswerInvalid):
        await chain_on(eth_getLogs=lambda _: answer).logs(CONTRACT, BlockNumber(5), BlockNumber(9))


@pytest.mark.parametrize(
    "complaint",
    [
        "query returned more than 10000 results",
        "block range is too wide",
        "Log response size exceeded",
        "eth_getLogs is limited to a 10 range",
    ],
)
async def test_logs__node_calls_the_range_too_large__windows_are_halved_without_a_gap(complaint: str) -> None:
    def answer(query: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        if last - first + 1 > 10:
            raise NodeRefused("eth_getLogs", -32005, complaint)
        return [log_answer(number, 0) for number in range(first, last + 1)]

    logs = await chain_on(eth_getLogs=answer).logs(CONTRACT, BlockNumber(1), BlockNumber(333))
    assert [log.place.block_number for log in logs] == list(range(1, 334))


async def test_logs__one_block_is_too_large__says_so_instead_of_looping() -> None:
    def answer(_: dict[str, Any]) -> Any:
        raise NodeRefused("eth_getLogs", -32005, "response size exceeded")

    with pytest.raises(NodeRefused, match="response size"):
        await chain_on(eth_getLogs=answer).logs(CONTRACT, BlockNumber(1), BlockNumber(333))


async def test_logs__node_refuses_for_another_reason__is_not_asked_again() -> None:
    def answer(_: dict[str, Any]) -> Any:
        raise NodeRefused("eth_getLogs", -32601, "the method is disabled")

    chain = chain_on(eth_getLogs=answer)
    with pytest.raises(NodeRefused, match="disabled"):
        await chain.logs(CONTRACT, BlockNumber(1), BlockNumber(333))


async def test_block__node_sends_another__is_not_believed() -> None:
    with pytest.raises(NodeAnswerInvalid):
        await chain_on(eth_getBlockByNumber=lambda *_: block_answer(8)).block(BlockNumber(9))


async def test_require_canonical__other_hash_at_the_height__chain_diverged() -> None:
    old = block_from_rpc(block_answer(9, branch=1))
    with pytest.raises(ChainDiverged):
        await chain_on().require_canonical(old)
    await chain_on().require_canonical(block_from_rpc(block_answer(9)))


async def test_require_canonical__node_is_behind__is_unavailable_not_diverged() -> None:
    with pytest.raises(BlockUnknown):
        await chain_on(eth_getBlockByNumber=lambda *_: None).require_canonical(block_from_rpc(block_answer(9)))


TRANSACTION = TransactionHash("0x" + "22" * 32)


def receipt_answer(**changes: Any) -> dict[str, Any]:
    receipt: dict[str, Any] = {
        "transactionHash": TRANSACTION,
        "blockNumber": "0x5",
        "blockHash": hash_of(5),
        "status": "0x1",
        "gasUsed": "0x5208",
    }
    return receipt | {"logs": [log_answer(5, 0)]} | changes


async def test_receipt__in_a_block_that_is_no_longer_canonical__there_is_none() -> None:
    chain = chain_on(eth_getTransactionReceipt=lambda _: receipt_answer(blockHash=hash_of(5, branch=1)))
    assert await chain.receipt(TRANSACTION) is None


@pytest.mark.parametrize("answer", [None, receipt_answer(blockNumber=None)])
async def test_receipt__not_mined__there_is_none(answer: Any) -> None:
    assert await chain_on(eth_getTransactionReceipt=lambda _: answer).receipt(TRANSACTION) is None


@pytest.mark.parametrize("changes", [{"transactionHash": "0x" + "33" * 32}, {"logs": None}, {"logs": [log_answer(6, 0)]}, {"status": None}])
async def test_receipt__that_cannot_be_true__is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(NodeAnswerInvalid):
        await chain_on(eth_getTransactionReceipt=lambda _: receipt_answer(**changes)).receipt(TRANSACTION)


@pytest.mark.parametrize("value", [None, 5, "5", "0x", "0xzz", "", [], True])
def test_quantity__not_a_hexadecimal_number__is_not_believed(value: Any) -> None:
    with pytest.raises(NodeAnswerInvalid):
        quantity(value)


@pytest.mark.parametrize("value", [None, "11", "0x1", "0xzz", 17])
def test_octets__not_hexadecimal_bytes__is_not_believed(value: Any) -> None:
    with pytest.raises(NodeAnswerInvalid):
        octets(value)


@pytest.mark.parametrize("value", [None, "0x11", 5, "0x" + "zz" * 20])
def test_address_of__not_an_address__is_not_believed(value: Any) -> None:
    with pytest.raises(NodeAnswerInvalid):
        address_of(value)


def test_refusal__custom_error__names_it_with_its_arguments() -> None:
    data = keccak(text="ModelRepository_DeadlinePassed(uint256,uint64)")[:4] + encode(["uint256", "uint64"], [7, 1_800_000_000])
    refused = refusal(data)
    assert refused.name == "ModelRepository_DeadlinePassed"
    assert list(refused.arguments.values()) == [7, 1_800_000_000]
    assert refused.sentence.startswith("the contract refused: deadline passed (")
    assert "1800000000" in refused.sentence


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes.fromhex("08c379a0") + encode(["string"], ["too late"]), "too late"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "panic"),
        (b"", "reverted"),
        (b"\x01\x02\x03\x04", "0x01020304"),
    ],
)
def test_refusal__other_reverts__are_told_in_words(data: bytes, words: str) -> None:
    refused = refusal(data)
    assert isinstance(refused, ContractRefused)
    assert words in refused.sentence


def test_block_from_rpc__a_header__has_our_units() -> None:
    block = block_from_rpc(block_answer(9))
    assert block == Block(BlockNumber(9), block.hash, block.parent_hash, block.timestamp)
    assert block.timestamp == 1009
