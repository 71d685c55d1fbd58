"""python-paillier (phe) with this project's statistics trick: d² small integer multiplications, whatever the number of rows.

One ciphertext per output, integers at the same scale. Re-randomised by phe's own `obfuscate`, a full r^n as here: that is the fair
comparison. Without it a guess of the owner's matrix can be confirmed offline, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.data import Case
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.peer import Step, WrongResult, not_installed

_TIMED_OUTPUTS = 10
_TIMED_WEIGHTS = 10


@dataclass(frozen=True)
class PheStatistics:
    """Integers, with or without fresh randomness on what leaves the owner."""

    rerandomised: bool
    by_rows = False
    by_key = True

    @property
    def name(self) -> str:
        """As the table calls it."""
        return "phe, same statistics, " + ("re-randomised" if self.rerandomised else "not re-randomised")

    @property
    def rerandomises(self) -> bool:
        """As constructed."""
        return self.rerandomised

    def missing(self) -> str | None:
        """A development dependency: always here."""
        return not_installed("phe", "phe")

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """Above d = 42 a few outputs and encryptions are timed and multiplied."""
        import phe

        d = case.dimension
        public = phe.PaillierPublicKey(primes[0] * primes[1])
        private = phe.PaillierPrivateKey(public, *primes)
        encrypted = [public.encrypt(weight) for weight in case.weights]
        count = d if d <= 42 else _TIMED_OUTPUTS
        outputs: list[Any] = []

        def owner() -> None:
            outputs[:] = [
                sum((weight * entry for weight, entry in zip(encrypted[1:], row[1:], strict=True)), encrypted[0] * row[0]) - offset
                for row, offset in zip(case.matrix[:count], case.offset[:count], strict=True)
            ]

        owner_seconds = cpu_seconds(owner, min(repeats, 3)) * d / count
        if [private.decrypt(output) for output in outputs] != case.gradient()[:count]:
            raise WrongResult
        timed = d if d <= 42 else _TIMED_WEIGHTS
        randomise = (
            cpu_seconds(lambda: [output.obfuscate() for output in outputs[:timed]], repeats) * d / timed if self.rerandomised else 0.0
        )
        length = 2 * ((public.n.bit_length() + 7) // 8)
        return Step(
            encrypt=cpu_seconds(lambda: [public.encrypt(weight) for weight in case.weights[:timed]], repeats) * d / timed,
            owner=owner_seconds,
            randomise=randomise,
            decrypt=cpu_seconds(lambda: [private.decrypt(output) for output in outputs[:timed]], repeats) * d / timed,
            upload_bytes=d * length,
            download_bytes=d * length,
            error=0.0,
            note=f"extrapolated from {count} of {d} outputs, {timed} encryptions and decryptions" if count < d or timed < d else "",
        )
