"""What the demo shows while it runs: on a terminal a live picture, elsewhere one line for each thing that happened."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devstack.demo.ledger import Ledger
from hessian.chain.events import (
    CohortClosed,
    CohortSealed,
    Credited,
    GradientSubmitted,
    MemberJoined,
    MemberUnlocked,
    ModelClosed,
    ModelCreated,
    RepositoryEvent,
    RoundOpened,
    RoundSettled,
    SubmissionsAccepted,
    SubmissionsCompleted,
    UnlocksCompleted,
    Withdrawn,
)
from hessian.identifiers import Address, Wei

_WEI_PER_ETHER = 10**18
_BILLION = 10**9
_DETAILS = (GradientSubmitted, MemberUnlocked, Credited, Withdrawn, CohortClosed)
COHORT_SIZE = 5


def ether(amount: int) -> str:
    """Wei for people: six decimals of ether."""
    return f"{amount / _WEI_PER_ETHER:.6f}"


class Display:
    """Phases above, the round and its members in the middle, what happened below. `seconds` keeps how long each phase took."""

    def __init__(self, console: Console) -> None:
        """`console` decides whether the picture moves."""
        self.console = console
        self.seconds: dict[str, float] = {}
        self.names: Mapping[Address, str] = {}
        self.balances: dict[Address, Wei] = {}
        self._ledger: Ledger | None = None
        self._phase, self._since = "", time.monotonic()
        self._live = (
            Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """One line that stays."""
        self.console.print(f"  {sentence}", highlight=False, soft_wrap=True)
        self.draw()

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[None]:
        """One part of the run, timed under `name`."""
        self._phase, self._since = title, time.monotonic()
        self.console.print(Text(title, style="bold"), soft_wrap=True)
        self.draw()
        yield
        self.seconds[name] = round(time.monotonic() - self._since, 3)
        self.console.print(Text(f"  done in {self.seconds[name]:.1f} s", style="dim"))

    def follow(self, ledger: Ledger, names: Mapping[Address, str]) -> None:
        """From now on show this chain's rounds, with people's names for addresses."""
        self._ledger, self.names = ledger, names

    def draw(self) -> None:
        """Show how things stand."""
        if self._live is not None:
            self._live.refresh()

    def _picture(self) -> RenderableType:
        lines: list[RenderableType] = [Text(f"▶ {self._phase}  {time.monotonic() - self._since:5.1f} s", style="bold cyan")]
        if self._ledger is not None and self._ledger.events:
            lines += [Text("  " + doing(self._ledger), style="cyan"), self._members(self._ledger), self._rounds(self._ledger)]
        return Group(*lines)

    def _members(self, ledger: Ledger) -> RenderableType:
        opened = ledger.all(RoundOpened)
        submitted, unlocked = ledger.progress_of(opened[-1].round_id) if opened else (set[Address](), set[Address]())
        table = Table("", "masked gradient", "unlocked", "wallet, ether", box=None, pad_edge=True)
        for address, name in self.names.items():
            balance = ether(self.balances[address]) if address in self.balances else ""
            table.add_row(name, "submitted" if address in submitted else "·", "yes" if address in unlocked else "·", balance)
        return table

    def _rounds(self, ledger: Ledger) -> RenderableType:
        created = ledger.all(ModelCreated)
        bounty, earned = (created[0].terms.bounty if created else 0), 0
        table = Table("round", "error", "share of the bounty", "seconds", box=None, pad_edge=True)
        for settled in ledger.all(RoundSettled):
            earned += settled.reward
            table.add_row(
                str(settled.round_id),
                f"{settled.new_error / _BILLION:.6f}",
                f"{100 * earned / bounty:.1f} %",
                f"{seconds_of(ledger, settled):.1f}",
            )
        return table


def seconds_of(ledger: Ledger, settled: RoundSettled) -> float:
    """How long a round took, from the sight of its opening to the sight of its settlement."""
    opened = next(event for event in ledger.all(RoundOpened) if event.round_id == settled.round_id)
    return ledger.moment(settled) - ledger.moment(opened)


def doing(ledger: Ledger) -> str:
    """What the system is about, as the newest events tell it."""
    last = ledger.events[-1]
    if not ledger.is_final:
        return f"waiting for the final block: {last.kind} is in block {last.place.block_number}, final is {ledger.final}"
    joined = len(ledger.all(MemberJoined))
    opened = ledger.all(RoundOpened)
    number = opened[-1].round_id if opened else 0
    submitted, unlocked = ledger.progress_of(number)
    match next(event for event in reversed(ledger.events) if not isinstance(event, _DETAILS)):
        case ModelCreated() | MemberJoined():
            return f"the cohort fills: {joined} of {_cohort_size(ledger)}"
        case CohortSealed():
            return "the cohort is sealed: the lender opens a round"
        case RoundOpened():
            return f"round {number}: the owners compute under encryption, {len(submitted)} of {joined} have submitted"
        case SubmissionsCompleted():
            return f"round {number}: all have submitted; the lender checks every artifact before it accepts"
        case SubmissionsAccepted():
            return f"round {number}: accepted; {len(unlocked)} of {joined} owners have unlocked"
        case UnlocksCompleted():
            return f"round {number}: the lender opens the sum, updates its model and measures it"
        case RoundSettled():
            return f"round {number} is settled"
        case other:
            return other.kind


def _cohort_size(ledger: Ledger) -> int:
    created = ledger.all(ModelCreated)
    return created[0].terms.cohort_size if created else COHORT_SIZE


def sentence_of(event: RepositoryEvent, names: Mapping[Address, str]) -> str | None:
    """The line that an event is worth, if it is worth one."""
    who = names.get(getattr(event, "account", Address("")), "somebody")
    match event:
        case ModelCreated():
            escrow = event.terms.bounty + event.terms.base_fee * event.terms.max_rounds
            return f"model {event.model_id} is on chain, {ether(escrow)} ether in escrow"
        case CohortSealed():
            return f"the cohort is sealed: {event.total_rows} declared rows"
        case RoundSettled():
            return f"round {event.round_id} settled: error {event.new_error / _BILLION:.6f}, reward {ether(event.reward)} ether"
        case Withdrawn():
            return f"{who} withdrew {ether(event.amount)} ether"
        case ModelClosed():
            return f"the model is closed: {event.state.name.lower()}; {ether(event.refund)} ether back to the lender"
        case _:
            return None
