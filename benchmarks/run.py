"""What a section is given: how much to measure, keys, a place to say how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from benchmarks.data import Case, real_loans, synthetic
from benchmarks.report import SectionResult
from hessian.paillier.decryption import generate_private_key
from hessian.paillier.keys import MINIMUM_BITS


@dataclass(frozen=True)
class Extent:
    """How much one run measures."""

    repeats: int
    key_bits: tuple[int, ...]
    loan_rows: tuple[int, ...]
    synthetic: tuple[tuple[int, int], ...]
    minimum_bits: int = MINIMUM_BITS


FULL = Extent(repeats=7, key_bits=(2048, 3072), loan_rows=(100, 1000, 8000), synthetic=((100, 8000), (500, 8000)))
QUICK = Extent(repeats=3, key_bits=(2048,), loan_rows=(8000,), synthetic=((100, 8000),))


@dataclass(frozen=True)
class Run:
    """One run of the benchmark. `say` prints a line of progress."""

    extent: Extent
    say: Callable[[str], None]

    @cached_property
    def primes(self) -> dict[int, tuple[int, int]]:
        """The primes of one fresh key for each length."""
        keys = {bits: generate_private_key(bits, minimum_bits=self.extent.minimum_bits) for bits in self.extent.key_bits}
        return {bits: (key.p, key.q) for bits, key in keys.items()}

    @cached_property
    def cases(self) -> list[Case]:
        """The loans at every number of rows, then the synthetic data."""
        self.say("data and keys")
        return [real_loans(rows) for rows in self.extent.loan_rows] + [synthetic(d, rows) for d, rows in self.extent.synthetic]

    @property
    def largest_cases(self) -> list[Case]:
        """One per dimension, with the most rows: for what does not depend on n."""
        return list({case.dimension: case for case in sorted(self.cases, key=lambda case: case.rows)}.values())


class Section(Protocol):
    """One table of the report."""

    def __call__(self, run: Run) -> SectionResult:
        """Measure it."""


def named(case: Case) -> str:
    """How progress lines call a case."""
    return f"{case.name}, d = {case.dimension}, n = {case.rows}"
