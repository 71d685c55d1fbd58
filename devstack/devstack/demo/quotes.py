"""What came of serving: every quote beside the same decision in the clear, and what `report.json` says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Column, Table

from devstack.demo.checks import Check
from hessian.identifiers import Wei

FEE = Wei(10**15)
QUOTE_SECONDS = 5


@dataclass(frozen=True)
class Quote:
    """One answered application beside the same decision in the clear. `score_error`: the decoded score less the float64 score."""

    borrower: str
    mode: str
    decision: str
    decision_in_the_clear: str
    rate_bps: int | None
    rate_in_the_clear_bps: int | None
    pd_bps: int
    score_error: float
    reasons: list[str]
    seconds: float

    @property
    def agrees(self) -> bool:
        """The private decision is the plaintext decision."""
        return (self.decision, self.rate_bps) == (self.decision_in_the_clear, self.rate_in_the_clear_bps)


@dataclass
class Served:
    """What `report.json` says of serving."""

    deployment: dict[str, Any]
    quotes: list[Quote] = field(default_factory=list)
    refusal: str = ""
    confirmation: dict[str, Any] = field(default_factory=dict)
    fees_wei: str = "0"


def deployment(served: Served) -> dict[str, Any]:
    """The published part: calibration figures, policy, and what every band is told."""
    kept = ("deployment_id", "fee_wei", "policy", "bands", "calibration", "scoring_digest")
    return {name: served.deployment[name] for name in kept} | {"refusal": served.refusal, "confirmation": served.confirmation}


def checks(served: Served) -> list[Check]:
    """What serving is expected to be."""
    agreeing = sum(quote.agrees for quote in served.quotes)
    kinds = {quote.decision for quote in served.quotes}
    alone = served.quotes[0].seconds
    earned = FEE * len(served.quotes)
    accepted = next(quote for quote in served.quotes if quote.decision == "approve")
    return [
        Check(
            "every decision is the one on the features in the clear", f"{agreeing} of {len(served.quotes)}", agreeing == len(served.quotes)
        ),
        Check("borrowers are approved and declined", " and ".join(sorted(kinds)), kinds == {"approve", "decline"}),
        Check("an impossible feature is refused with its name", served.refusal or "it was taken", bool(served.refusal)),
        Check(
            "the accepted quote is confirmed at its rate",
            f"{served.confirmation['rate_bps']} bps",
            served.confirmation["rate_bps"] == accepted.rate_bps,
        ),
        Check("the lender earned one fee for every answer", f"{served.fees_wei} wei", int(served.fees_wei) == earned),
        Check(f"a quote alone takes less than {QUOTE_SECONDS} s", f"{alone:.1f} s", alone < QUOTE_SECONDS, decides=False),
    ]


def table(quotes: Sequence[Quote]) -> Table:
    """For people."""
    columns = ("borrower", "mode", "decision", "rate", "default", "score error", "seconds")
    shown = Table(*(Column(name, no_wrap=name != "borrower") for name in columns), box=None, pad_edge=True)
    for quote in quotes:
        rate = "" if quote.rate_bps is None else f"{quote.rate_bps / 100:.2f} %"
        figures = (f"{quote.pd_bps / 100:.2f} %", f"{quote.score_error:+.1e}", f"{quote.seconds:.1f}")
        shown.add_row(quote.borrower, quote.mode, quote.decision, rate, *figures)
    return shown


def sentence_of(quote: Quote) -> str:
    """One line about a quote."""
    terms = f"approved at {percent(quote.rate_bps)}" if quote.rate_bps is not None else "declined"
    told = f" ({'; '.join(quote.reasons)})" if quote.reasons else ""
    return f"{quote.borrower}: {terms}{told}, {'as' if quote.agrees else 'NOT as'} in the clear, {quote.seconds:.1f} s"


def percent(bps: int | None) -> str:
    """Basis points for people."""
    return "" if bps is None else f"{bps / 100:.2f} %"
