"""What both recodings of `multiexp` hand to its evaluation: a table of units in halves, and which of its places are read where."""

from __future__ import annotations

from gmpy2 import mpz

from hessian.paillier.residues import SplitUnit

LookUps = list[tuple[int, list[int]]]
"""(bit position, places in the table), the highest position first; the unit at each place is multiplied in at that position."""


class Table:
    """Units low·(1 + tail·n): their halves in two flat lists, so that a look-up is one index. A place nobody reads stays empty."""

    def __init__(self, places: int) -> None:
        self.lows = [mpz(0)] * places
        self.tails = [mpz(0)] * places

    def put(self, place: int, unit: SplitUnit) -> None:
        """Fill one place."""
        self.lows[place], self.tails[place] = unit.low, unit.tail
