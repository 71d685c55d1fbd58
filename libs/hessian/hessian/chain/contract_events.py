"""What the events of both contracts have in common: their place, their decoding from logs, and a plain JSON form for storage.

In JSON: wei are decimal strings, bytes are 0x hex, enums their lower-case names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from typing import Any, TypeVar, get_type_hints

from hessian.chain.blocks import EventPlace, Log
from hessian.chain.encoding import Undecodable, contract_abi, record_from_abi
from hessian.errors import Malformed
from hessian.identifiers import Digest, Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractEvent:
    """Something a contract did, and where. Each contract has a base class of its own, whose `kinds` lists its events by name."""

    place: EventPlace

    @property
    def kind(self) -> str:
        """The event's name in the contract."""
        return type(self).__name__

    def to_plain(self) -> dict[str, Any]:
        """JSON-able: `{"event": kind, "place": {…}, …}`."""
        return {"event": self.kind, **_to_plain(self)}


EventT = TypeVar("EventT", bound=ContractEvent)


def event_from_log(contract: str, kinds: Mapping[str, type[EventT]], log: Log) -> EventT:
    """The event in a log of this contract. Raises Undecodable (Violated) for one this software does not know."""
    name, values = contract_abi(contract).decode_log(log.topics, log.data)
    kind = kinds.get(name)
    if kind is None:
        raise Undecodable(f"the contract emitted {name}, which this software does not know")
    return record_from_abi(kind, values, place=log.place)


def event_from_plain(kinds: Mapping[str, type[EventT]], plain: Mapping[str, Any]) -> EventT:
    """What `to_plain` wrote. Raises Malformed."""
    kind = kinds.get(str(plain.get("event")))
    if kind is None:
        raise Malformed(f"there is no event called {plain.get('event')!r}")
    event = _from_plain(kind, {name: value for name, value in plain.items() if name != "event"})
    assert isinstance(event, kind)  # noqa: S101  # what `_from_plain` made
    return event


def _to_plain(record: Any) -> dict[str, Any]:
    hints = get_type_hints(type(record))
    return {field.name: _plain(hints[field.name], getattr(record, field.name)) for field in fields(record)}


def _plain(hint: Any, value: Any) -> Any:
    if is_dataclass(value):
        return _to_plain(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value) if hint is Wei else value


def _from_plain(record: type[Any], plain: Mapping[str, Any]) -> Any:
    hints = get_type_hints(record)
    names = {field.name for field in fields(record)}
    if names != plain.keys():
        raise Malformed(f"{record.__name__} has the fields {sorted(names)}, not {sorted(plain)}")
    try:
        return record(**{name: _unplain(hints[name], plain[name]) for name in names})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"a field of {record.__name__} has the wrong form") from error


def _unplain(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        return _from_plain(hint, value)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint[value.upper()]
    if hint is bytes or hint is Digest:
        return bytes.fromhex(value.removeprefix("0x"))
    if hint is Wei:
        return int(value)
    return value
