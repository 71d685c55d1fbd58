"""What a run is expected to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that was expected. Times are measured on whatever machine this is: they are told, and do not decide the exit code."""

    expected: str
    measured: str
    holds: bool
    decides: bool = True
