"""Events of the serving contract: every one in its ABI has its dataclass, decodes from a log, and survives JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.abi import event_abi_to_log_topic
from eth_utils.crypto import keccak

from hessian.chain import events
from hessian.chain.blocks import BlockHash, EventPlace, Log, TransactionHash
from hessian.chain.deployment_events import Credited, DeploymentEvent, ScoreRequested, Withdrawn, decode, decode_all, from_plain
from hessian.chain.deployment_records import FeeCreditReason
from hessian.chain.encoding import Undecodable, contract_abi, refusal
from hessian.errors import Malformed
from hessian.identifiers import Address, BlockNumber, DeploymentId, Digest, RequestId, Timestamp, Wei

CONTRACT = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
BORROWER = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
PLACE = EventPlace(BlockNumber(7), BlockHash("0x" + "ab" * 32), 3, TransactionHash("0x" + "cd" * 32), Timestamp(1_800_000_000))
EVENTS = {entry["name"]: entry for entry in contract_abi("ModelDeployment").events}


def log_of(name: str, *values: Any) -> Log:
    """The log that the contract would emit, encoded independently of the code under test."""
    entry = EVENTS[name]
    pairs = list(zip(entry["inputs"], values, strict=True))
    topics = [event_abi_to_log_topic(entry)] + [encode([item["type"]], [value]) for item, value in pairs if item["indexed"]]
    plain = [(item["type"], value) for item, value in pairs if not item["indexed"]]
    return Log(CONTRACT, tuple(topics), encode([kind for kind, _ in plain], [value for _, value in plain]), PLACE)


def test_kinds__every_event_of_the_abi__has_its_dataclass_and_no_other() -> None:
    assert set(DeploymentEvent.kinds) == set(EVENTS)
    assert not set(DeploymentEvent.kinds.values()) & set(events.RepositoryEvent.kinds.values())


def test_from_plain__every_kind__comes_back_as_itself() -> None:
    samples: dict[str, Any] = {"uint8": 1, "uint32": 3, "uint64": 4, "uint128": 5, "uint256": 5, "address": BORROWER, "bytes32": b"d" * 32}
    for name, entry in EVENTS.items():
        event = decode(log_of(name, *(samples[item["type"]] for item in entry["inputs"])))
        assert event.kind == name
        assert from_plain(json.loads(json.dumps(event.to_plain()))) == event


def test_decode__score_requested__is_typed() -> None:
    assert decode(log_of("ScoreRequested", 4, 2, BORROWER, b"q" * 32, 99)) == ScoreRequested(
        place=PLACE,
        request_id=RequestId(4),
        deployment_id=DeploymentId(2),
        requester=BORROWER,
        query_digest=Digest(b"q" * 32),
        deadline=Timestamp(99),
    )


def test_decode__a_credit__says_why_and_keeps_wei_as_text() -> None:
    event = decode(log_of("Credited", BORROWER, 4, 1, 10**20))
    assert event == Credited(place=PLACE, account=BORROWER, request_id=RequestId(4), reason=FeeCreditReason.REFUND, amount=Wei(10**20))
    assert (event.to_plain()["amount"], event.to_plain()["reason"]) == (str(10**20), "refund")


def test_decode__a_log_of_the_other_contract__stops_loudly() -> None:
    with pytest.raises(Undecodable):
        decode(log_of("Credited", BORROWER, 4, 9, 5))  # no such reason
    with pytest.raises(Undecodable):
        events.decode(log_of("DeploymentRetired", 4))
    with pytest.raises(Malformed):
        events.from_plain(decode(log_of("DeploymentRetired", 4)).to_plain())


def test_decode_all__the_ledgers_event_of_both_contracts__is_each_ones_own() -> None:
    log = log_of("Withdrawn", BORROWER, 5)
    assert decode_all([log], CONTRACT) == [Withdrawn(place=PLACE, account=BORROWER, amount=Wei(5))]
    assert decode_all([log], BORROWER) == []
    assert events.decode_all([log], CONTRACT) == [events.Withdrawn(place=PLACE, account=BORROWER, amount=Wei(5))]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("ModelDeployment_NotServing(uint256)", "the contract refused: not serving (deployment id 7)"),
        ("ModelRepository_RoundUnknown(uint256)", "the contract refused: round unknown (round id 7)"),
    ],
)
def test_refusal__an_error_of_either_contract__is_said_in_words(error: str, sentence: str) -> None:
    assert refusal(keccak(text=error)[:4] + encode(["uint256"], [7])).sentence == sentence
