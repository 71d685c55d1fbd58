"""What every peer answers: whether it is installed, and what one gradient step costs it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Protocol

from benchmarks.data import Case


@dataclass(frozen=True)
class Step:
    """One gradient step. Parts are processor seconds: lender encrypts, owner computes, owner re-randomises, lender decrypts.

    `note` says what was extrapolated, or what a figure does not include. `error` is the largest difference to the exact gradient, in
    units of the gradient.
    """

    encrypt: float
    owner: float
    randomise: float
    decrypt: float
    upload_bytes: int
    download_bytes: int
    error: float
    note: str = ""

    @property
    def whole(self) -> float:
        """The four parts together."""
        return self.encrypt + self.owner + self.randomise + self.decrypt


class Peer(Protocol):
    """A library, and one way to take the step with it."""

    @property
    def name(self) -> str:
        """As the table calls it."""

    @property
    def rerandomises(self) -> bool:
        """Whether what leaves the owner carries fresh randomness of full strength."""

    @property
    def by_rows(self) -> bool:
        """Whether it is measured at every n, because its time grows with n."""

    @property
    def by_key(self) -> bool:
        """Whether it has a Paillier key."""

    def missing(self) -> str | None:
        """Why it cannot be measured here; None when it can."""

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """Take the step and check its result. `primes` are those of the Paillier key in use."""


def not_installed(module: str, distribution: str) -> str | None:
    """A sentence for the table when a module cannot be found."""
    if importlib.util.find_spec(module) is not None:
        return None
    return f"{distribution} is not installed: it publishes no wheel for Python {sys.version_info.major}.{sys.version_info.minor} here"


def largest_error(opened: list[float], case: Case) -> float:
    """The largest difference between what was opened (at scale 1) and the exact gradient."""
    unit = 2.0**case.bounds.gradient_bits
    return max(abs(value - exact / unit) for value, exact in zip(opened, case.gradient(), strict=True))


class WrongResult(AssertionError):
    """A library opened something that is not the gradient: its time would mean nothing."""
