"""Events of the contract: every one in the ABI has its dataclass, decodes from a log, and survives JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import IntEnum
from typing import Any, get_type_hints

import pytest
from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic
from hypothesis import given
from hypothesis import strategies as st

from hessian.chain.blocks import BlockHash, EventPlace, Log, TransactionHash
from hessian.chain.encoding import Undecodable, contract_abi, record_to_abi
from hessian.chain.events import Credited, ModelCreated, RepositoryEvent, RoundSettled, Withdrawn, decode, decode_all, from_plain
from hessian.chain.records import CreditReason, ModelState, SplitRule, Terms
from hessian.errors import Malformed
from hessian.identifiers import Address, BlockNumber, CohortId, Digest, ErrorUnits, ModelId, RoundId, Timestamp, Wei

CONTRACT = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
LENDER = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
PLACE = EventPlace(BlockNumber(7), BlockHash("0x" + "ab" * 32), 3, TransactionHash("0x" + "cd" * 32), Timestamp(1_800_000_000))
ABI = contract_abi("ModelRepository")
EVENTS = {entry["name"]: entry for entry in ABI.events}

words = st.binary(min_size=32, max_size=32)
numbers = st.integers(min_value=0, max_value=2**64 - 1)
wei = st.integers(min_value=0, max_value=2**256 - 1)


def log_of(name: str, *values: Any, place: EventPlace = PLACE, address: Address = CONTRACT) -> Log:
    """The log that the contract would emit, encoded independently of the code under test."""
    entry = EVENTS[name]
    pairs = list(zip(entry["inputs"], values, strict=True))
    topics = [event_abi_to_log_topic(entry)] + [encode([item["type"]], [value]) for item, value in pairs if item["indexed"]]
    plain = [(collapse_if_tuple(item), value) for item, value in pairs if not item["indexed"]]
    return Log(address, tuple(topics), encode([kind for kind, _ in plain], [value for _, value in plain]), place)


def test_kinds__every_event_of_the_abi__has_its_dataclass_and_no_other() -> None:
    assert set(RepositoryEvent.kinds) == set(EVENTS)


TERMS = Terms(
    Wei(10**21), Wei(5), Wei(6), ErrorUnits(250), ErrorUnits(200), 8, 5, 9, SplitRule.BY_ROWS, 60, 61, 62, 63, Timestamp(1_900_000_000)
)


def test_decode__model_created__has_typed_terms() -> None:
    event = decode(log_of("ModelCreated", 4, LENDER, record_to_abi(TERMS), b"m" * 32, b"w" * 32, 11))
    assert event == ModelCreated(
        place=PLACE,
        model_id=ModelId(4),
        lender=LENDER,
        terms=TERMS,
        manifest_digest=Digest(b"m" * 32),
        weights_digest=Digest(b"w" * 32),
        forming_cohort_id=CohortId(11),
    )
    assert event.kind == "ModelCreated"


@given(st.tuples(numbers, numbers, numbers, numbers, words, words, wei, wei, st.sampled_from(ModelState)))
def test_from_plain__of_a_stored_event__is_the_event(values: tuple[Any, ...]) -> None:
    event = decode(log_of("RoundSettled", *values))
    assert isinstance(event, RoundSettled)
    stored = json.loads(json.dumps(event.to_plain()))
    assert from_plain(stored) == event
    assert stored["reward"] == str(values[6])
    assert stored["new_weights_digest"] == "0x" + values[4].hex()
    assert event.round_id == RoundId(values[0])


def test_from_plain__every_kind__comes_back() -> None:
    samples: dict[str, Any] = {"uint8": 1, "uint16": 2, "uint32": 3, "uint64": 4, "uint256": 5, "address": LENDER, "bytes32": b"d" * 32}
    for name, entry in EVENTS.items():
        values = [record_to_abi(TERMS) if item["type"] == "tuple" else samples[item["type"]] for item in entry["inputs"]]
        event = decode(log_of(name, *values))
        assert from_plain(json.loads(json.dumps(event.to_plain()))) == event


def test_decode__number_outside_an_enum__stops_loudly() -> None:
    with pytest.raises(Undecodable):
        decode(log_of("Credited", LENDER, 1, 9, 5))


@pytest.mark.parametrize("topics", [(), (b"\x00" * 32,)])
def test_decode__event_not_in_the_abi__stops_loudly(topics: tuple[bytes, ...]) -> None:
    with pytest.raises(Undecodable):
        decode(Log(CONTRACT, topics, b"", PLACE))


def test_decode__cut_data__stops_loudly() -> None:
    log = log_of("Withdrawn", LENDER, 5)
    with pytest.raises(Undecodable):
        decode(Log(log.address, log.topics, log.data[:-1], log.place))
    with pytest.raises(Undecodable):
        decode(Log(log.address, log.topics[:1], log.data, log.place))


def test_decode_all__logs_of_two_contracts__keeps_ours() -> None:
    ours, other = log_of("Withdrawn", LENDER, 5), log_of("Withdrawn", LENDER, 6, address=LENDER)
    assert decode_all([ours, other], CONTRACT) == [Withdrawn(place=PLACE, account=LENDER, amount=Wei(5))]


def _stored() -> dict[str, Any]:
    return Credited(place=PLACE, account=LENDER, model_id=ModelId(1), reason=CreditReason.BOND, amount=Wei(7)).to_plain()


@pytest.mark.parametrize(
    "change",
    [
        {"event": "Nothing"},
        {"event": None},
        {"more": 1},
        {"reason": "gift"},
        {"reason": 2},
        {"amount": "seven"},
        {"place": {}},
        {"place": "here"},
    ],
)
def test_from_plain__wrong_form__is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        from_plain(_stored() | change)


def test_fields__wei_and_enums__are_typed_everywhere() -> None:
    """A `uint256` amount that lost its Wei type would travel as a JSON number and be rounded in a browser."""
    for kind in RepositoryEvent.kinds.values():
        hints = get_type_hints(kind)
        for field in fields(kind):
            if field.name in {"amount", "reward", "pool", "refund"}:
                assert hints[field.name] is Wei
            if field.name in {"reason", "state", "from_state", "model_state"}:
                assert issubclass(hints[field.name], IntEnum)
