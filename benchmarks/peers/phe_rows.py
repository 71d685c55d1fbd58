"""python-paillier (phe) row by row: the encrypted score of each row, times each feature. What one writes first; its time grows with n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.data import FEATURE_BITS, Case
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.peer import Step, WrongResult, not_installed

_TIMED_ROWS = 2
_TIMED_WEIGHTS = 10


@dataclass(frozen=True)
class PheRows:
    """Integers at one fixed scale, or phe's own floating point."""

    floats: bool
    rerandomises = False
    by_key = True

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"phe, row by row, {'floats' if self.floats else 'integers'}"

    @property
    def by_rows(self) -> bool:
        """The integers at every n; the floats, which grow as they do, at the largest only."""
        return not self.floats

    def missing(self) -> str | None:
        """A development dependency: always here."""
        return not_installed("phe", "phe")

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """Two rows are timed; the owner's time is multiplied by n/2."""
        import phe

        d, one = case.dimension, 1 << FEATURE_BITS
        weight_scale = 1 << case.bounds.weight_bits
        public = phe.PaillierPublicKey(primes[0] * primes[1])
        private = phe.PaillierPrivateKey(public, *primes)
        plain = [weight / weight_scale for weight in case.weights] if self.floats else list(case.weights)
        encrypted = [public.encrypt(weight) for weight in plain]
        rows = [[entry / one for entry in row] if self.floats else list(row) for row in case.features[:_TIMED_ROWS]]
        # at the score's scale, as the integers' labels must be
        labels = list(case.labels) if self.floats else [label * one * weight_scale for label in case.labels]
        sums: list[Any] = []

        def owner() -> None:
            totals = None
            for row, label in zip(rows, labels, strict=False):
                residual = (
                    sum((weight * entry for weight, entry in zip(encrypted[1:], row[1:], strict=True)), encrypted[0] * row[0]) - label
                )
                products = [residual * entry for entry in row]
                totals = products if totals is None else [total + product for total, product in zip(totals, products, strict=True)]
            sums[:] = totals or []

        owner_seconds = cpu_seconds(owner, min(repeats, 3)) * case.rows / len(rows)
        if not self._is_right([private.decrypt(total) for total in sums], plain, rows, labels):
            raise WrongResult
        timed = d if d <= 42 else _TIMED_WEIGHTS
        length = 2 * ((public.n.bit_length() + 7) // 8)
        return Step(
            encrypt=cpu_seconds(lambda: [public.encrypt(weight) for weight in plain[:timed]], repeats) * d / timed,
            owner=owner_seconds,
            randomise=0.0,
            decrypt=cpu_seconds(lambda: [private.decrypt(total) for total in sums[:timed]], repeats) * d / timed,
            upload_bytes=d * length,
            download_bytes=d * length,
            error=0.0,
            note=f"extrapolated from {len(rows)} of {case.rows} rows, {timed} encryptions and decryptions",
        )

    def _is_right(self, opened: Sequence[float], plain: Sequence[float], rows: Sequence[Sequence[float]], labels: Sequence[float]) -> bool:
        expected: list[float] = [0] * len(plain)  # integers stay exact
        for row, label in zip(rows, labels, strict=False):
            residual = sum(weight * entry for weight, entry in zip(plain, row, strict=True)) - label
            expected = [total + residual * entry for total, entry in zip(expected, row, strict=True)]
        if self.floats:
            return all(abs(value - exact) < 1e-6 * (1 + abs(exact)) for value, exact in zip(opened, expected, strict=True))
        return opened == expected
