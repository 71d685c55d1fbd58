"""Contract ABI ⇄ Python: calls, results, logs and reverts. Pure; the ABIs are files beside this one, produced by `make abi`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import IntEnum
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import abi_to_signature, collapse_if_tuple, event_abi_to_log_topic, function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from hessian.errors import Conflict, Violated

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_ERROR_STRING = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")

CONTRACTS = ("ModelRepository", "ModelDeployment")
"""Ours. An error that both declare (of the ledger they share) has the same selector and arguments in either."""


class Undecodable(Violated):
    """The contract's bytes do not fit the ABI this software was built with."""


class ContractRefused(Conflict):
    """The contract refused. `name` and `arguments` are the custom error's; the sentence says it in words."""

    def __init__(self, name: str, arguments: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.arguments = dict(arguments or {})
        words = snake_case(name.rpartition("_")[2]).replace("_", " ")  # the part before "_" is the contract that declares it
        details = ", ".join(f"{snake_case(key).replace('_', ' ')} {_shown(value)}" for key, value in self.arguments.items())
        super().__init__(f"the contract refused: {words}" + (f" ({details})" if details else ""))


def _shown(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


class ContractAbi:
    """One contract's functions, events and errors."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._functions: dict[str, Any] = {entry["name"]: entry for entry in entries if entry["type"] == "function"}
        self._events: dict[bytes, Any] = {event_abi_to_log_topic(entry): entry for entry in entries if entry["type"] == "event"}
        self._errors: dict[bytes, Any] = {_error_selector(entry): entry for entry in entries if entry["type"] == "error"}

    @property
    def functions(self) -> dict[bytes, Any]:
        """The ABI's entries of functions by their selector."""
        return {function_abi_to_4byte_selector(entry): entry for entry in self._functions.values()}

    @property
    def events(self) -> list[Any]:
        """The ABI's entries of events."""
        return list(self._events.values())

    def encode_call(self, function: str, *arguments: Any) -> bytes:
        """Selector and arguments; structs as tuples."""
        entry = self._functions[function]
        selector = function_abi_to_4byte_selector(entry)
        return selector + abi_encode([collapse_if_tuple(item) for item in entry["inputs"]], arguments)

    def decode_result(self, function: str, data: bytes) -> list[Any]:
        """The returned values; structs as dictionaries. Raises Undecodable."""
        return list(_decode(self._functions[function]["outputs"], data).values())

    def decode_log(self, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]]:
        """The event's name and arguments. Raises Undecodable for an event that is not in the ABI."""
        entry = self._events.get(topics[0]) if topics else None
        if entry is None:
            raise Undecodable("the contract emitted an event that this software does not know")
        indexed = [item for item in entry["inputs"] if item["indexed"]]
        if len(indexed) != len(topics) - 1:
            raise Undecodable(f"the event {entry['name']} has {len(topics) - 1} indexed arguments instead of {len(indexed)}")
        values = _decode([item for item in entry["inputs"] if not item["indexed"]], data)
        for item, topic in zip(indexed, topics[1:], strict=True):
            values |= _decode([item], topic)
        return str(entry["name"]), {item["name"]: values[item["name"]] for item in entry["inputs"]}

    def decode_error(self, data: bytes) -> ContractRefused | None:
        """The custom error in a revert's bytes, None when it is not one of this contract's."""
        entry = self._errors.get(data[:4])
        return None if entry is None else ContractRefused(str(entry["name"]), _decode(entry["inputs"], data[4:]))


def _error_selector(entry: Any) -> bytes:
    """An error's selector is made like a function's (https://docs.soliditylang.org/en/latest/abi-spec.html#errors)."""
    selector: bytes = keccak(text=abi_to_signature(entry))[:4]
    return selector


def _decode(items: Sequence[Any], data: bytes) -> dict[str, Any]:
    try:
        values = abi_decode([collapse_if_tuple(item) for item in items], data)
    except (DecodingError, UnicodeDecodeError) as error:
        raise Undecodable from error
    return {item["name"] or str(index): _named(item, value) for index, (item, value) in enumerate(zip(items, values, strict=True))}


def _named(item: Any, value: Any) -> Any:
    """Tuples become dictionaries, addresses get their checksum."""
    kind = str(item["type"])
    if kind.endswith("]"):
        inner = {**item, "type": kind[: kind.rindex("[")]}
        return [_named(inner, element) for element in value]
    if kind == "tuple":
        return {part["name"]: _named(part, element) for part, element in zip(item["components"], value, strict=True)}
    return str(to_checksum_address(value)) if kind == "address" else value


@cache
def contract_abi(name: str) -> ContractAbi:
    """The ABI of one of our contracts, from the package's own files."""
    file = resources.files("hessian.chain").joinpath(f"abi/{name}.json")
    return ContractAbi(json.loads(file.read_text(encoding="utf-8"))["abi"])


def refusal(data: bytes) -> ContractRefused:
    """A revert's bytes in words: our contracts' custom errors, Solidity's own two, or a revert without a reason."""
    for contract in CONTRACTS:
        known = contract_abi(contract).decode_error(data)
        if known is not None:
            return known
    if data[:4] == _ERROR_STRING:
        return ContractRefused("Error", _decode([{"name": "reason", "type": "string"}], data[4:]))
    if data[:4] == _PANIC:
        return ContractRefused("Panic", _decode([{"name": "code", "type": "uint256"}], data[4:]))
    return ContractRefused("Reverted", {"data": data} if data else None)


RecordT = TypeVar("RecordT", bound="DataclassInstance")


def record_from_abi(record: type[RecordT], values: Mapping[str, Any], **extra: Any) -> RecordT:
    """A dataclass from decoded values: `camelCase` names become its `snake_case` fields, numbers its enums. Raises Undecodable."""
    hints = get_type_hints(record)
    named = {snake_case(name): value for name, value in values.items()}
    wanted = {field.name for field in fields(record)} - extra.keys()
    if wanted != named.keys():
        raise Undecodable(f"{record.__name__} has the fields {sorted(wanted)}, the contract sent {sorted(named)}")
    try:
        return record(**{name: _typed(hints[name], value) for name, value in named.items()}, **extra)
    except ValueError as error:
        raise Undecodable(f"{record.__name__} holds a value that this software does not know") from error


def _typed(hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_typed(get_args(hint)[0], element) for element in value)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint(value)
    if isinstance(hint, type) and is_dataclass(hint):
        return record_from_abi(hint, value)
    return value


def record_to_abi(record: DataclassInstance) -> tuple[Any, ...]:
    """A dataclass whose fields stand in the struct's order, as the tuple that the encoder takes."""
    return tuple(int(value) if isinstance(value := getattr(record, field.name), IntEnum) else value for field in fields(record))


def snake_case(name: str) -> str:
    """`modelId` → `model_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
