"""What the doctor says: one finding per thing looked at, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.text import Text

from hessian.errors import HessianError


class Verdict(StrEnum):
    """How bad it is."""

    WELL = "well"
    ADVICE = "advice"  # works, and something should be changed
    WRONG = "wrong"  # does not work so


_COLOURS = {Verdict.WELL: "green", Verdict.ADVICE: "yellow", Verdict.WRONG: "bold red"}


@dataclass(frozen=True)
class Finding:
    """`remedy` says what to do; it is empty when nothing is."""

    subject: str
    verdict: Verdict
    sentence: str
    remedy: str = ""


class Findings(list[Finding]):
    """In the order in which things were looked at."""

    def well(self, subject: str, sentence: str) -> None:
        """As it must be."""
        self.append(Finding(subject, Verdict.WELL, sentence))

    def advice(self, subject: str, sentence: str, remedy: str) -> None:
        """It works like this, for now."""
        self.append(Finding(subject, Verdict.ADVICE, sentence, remedy))

    def wrong(self, subject: str, sentence: str, remedy: str) -> None:
        """It does not work like this."""
        self.append(Finding(subject, Verdict.WRONG, sentence, remedy))

    @contextmanager
    def trying(self, subject: str, remedy: str) -> Iterator[None]:
        """An error of ours that leaves the block is what is wrong."""
        try:
            yield
        except HessianError as error:
            self.wrong(subject, error.sentence, remedy)

    @property
    def are_well(self) -> bool:
        """Nothing is wrong; advice may be given."""
        return all(finding.verdict is not Verdict.WRONG for finding in self)


def show(findings: Sequence[Finding], console: Console) -> None:
    """A line for each, and a second one where something is to be done."""
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        line = Text(f"{finding.verdict:>7}  ", style=_COLOURS[finding.verdict]) + Text(f"{finding.subject:<{width}}  {finding.sentence}")
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{'':>9}{'':<{width}}  → {finding.remedy}"), soft_wrap=True)
