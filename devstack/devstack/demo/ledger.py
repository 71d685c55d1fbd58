"""The public record of a run: the contract's events as they appear at the head and become final, and what each call cost.

Anybody with a node sees this. The demo steers through the REST interfaces only; from here it takes what it shows and what it checks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from eth_utils.abi import function_abi_to_4byte_selector

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.toolchain import compiled
from hessian.chain.blocks import block_from_rpc, log_from_rpc
from hessian.chain.events import GradientSubmitted, MemberUnlocked, ModelCreated, RepositoryEvent, RoundSettled, decode
from hessian.identifiers import Address, Digest, Wei

EventT = TypeVar("EventT", bound=RepositoryEvent)


@dataclass
class FunctionGas:
    """What the calls of one contract function cost."""

    calls: int = 0
    total: int = 0
    largest: int = 0


@dataclass
class Ledger:
    """Events in order, each with the moment (monotonic seconds) at which this process first saw it."""

    anvil: Anvil
    repository: Deployment
    events: list[RepositoryEvent] = field(default_factory=list)
    seen_at: list[float] = field(default_factory=list)
    head: int = 0
    final: int = 0

    def read(self) -> list[RepositoryEvent]:
        """Take in the blocks since the last reading; the new events."""
        first, self.final = max(self.head + 1, self.repository.block), self.anvil.final()
        head = self.anvil.head()
        if head < first:
            return []
        span = {"address": self.repository.address, "fromBlock": hex(first), "toBlock": hex(head)}
        logs = self.anvil.call("eth_getLogs", span)
        blocks = {
            name: block_from_rpc(self.anvil.call("eth_getBlockByNumber", name, False)) for name in {log["blockNumber"] for log in logs}
        }
        fresh = [decode(log_from_rpc(log, blocks[log["blockNumber"]])) for log in logs]
        self.events += fresh
        self.seen_at += [time.monotonic()] * len(fresh)
        self.head = head
        return fresh

    def all(self, kind: type[EventT]) -> list[EventT]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def moment(self, event: RepositoryEvent) -> float:
        """When this process first saw it."""
        return self.seen_at[self.events.index(event)]

    @property
    def is_final(self) -> bool:
        """Whether the newest event may be acted upon."""
        return not self.events or self.events[-1].place.block_number <= self.final

    @property
    def balance(self) -> Wei:
        """What the contract holds."""
        return self.anvil.balance(self.repository.address)

    def artifacts(self) -> dict[str, list[Digest]]:
        """Every anchored digest by the kind of artifact it names."""
        found: dict[str, list[Digest]] = {"manifest": [], "weights": [], "gradient": [], "report": []}
        for event in self.events:
            match event:
                case ModelCreated():
                    found["manifest"].append(event.manifest_digest)
                    found["weights"].append(event.weights_digest)
                case GradientSubmitted():
                    found["gradient"].append(event.gradient_digest)
                case RoundSettled():
                    found["weights"].append(event.new_weights_digest)
                    found["report"].append(event.report_digest)
        return found

    def progress_of(self, round_id: int) -> tuple[set[Address], set[Address]]:
        """Who has submitted and who has unlocked in a round."""
        submitted = {event.member for event in self.all(GradientSubmitted) if event.round_id == round_id}
        return submitted, {event.member for event in self.all(MemberUnlocked) if event.round_id == round_id}

    def costs(self) -> tuple[dict[str, FunctionGas], Wei]:
        """Gas by contract function, and all the ether that was sent to the contract, from the blocks themselves."""
        entries: list[Any] = compiled("ModelRepository")["abi"]
        names = {function_abi_to_4byte_selector(entry).hex(): entry["name"] for entry in entries if entry["type"] == "function"}
        gas: dict[str, FunctionGas] = {}
        deposited = 0
        for transaction in self._transactions():
            receipt = self.anvil.call("eth_getTransactionReceipt", transaction["hash"])
            cost = gas.setdefault(names.get(transaction["input"][2:10], "unknown"), FunctionGas())
            cost.calls, cost.total = cost.calls + 1, cost.total + int(receipt["gasUsed"], 16)
            cost.largest = max(cost.largest, int(receipt["gasUsed"], 16))
            if int(receipt["status"], 16) == 1:
                deposited += int(transaction["value"], 16)
        return gas, Wei(deposited)

    def _transactions(self) -> Iterator[dict[str, Any]]:
        """Every transaction to the contract."""
        for number in range(self.repository.block, self.head + 1):
            for transaction in self.anvil.call("eth_getBlockByNumber", hex(number), True)["transactions"]:
                if (transaction["to"] or "").lower() == self.repository.address.lower():
                    yield transaction
