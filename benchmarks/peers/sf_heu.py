"""SecretFlow's HEU (C++): its fastest Paillier with the same statistics trick and its own matrix product.

ZPaillier encrypts with short exponents, which do not hide from the holder of the key; adding a fresh encryption of zero is the only
re-randomisation it offers, and is counted as such.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.data import Case
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.peer import Step, WrongResult, not_installed

_TIMED_OUTPUTS = 10


class SfHeu:
    """Integers through `hnp.matmul`. It makes its own key of the asked length."""

    name = "sf-heu ZPaillier, same statistics"
    rerandomises = False
    by_rows = False
    by_key = True

    def missing(self) -> str | None:
        """When no wheel fits: it has them for Python 3.11 and older on Linux only."""
        return not_installed("heu", "sf-heu")

    def step(self, case: Case, primes: tuple[int, int], repeats: int) -> Step:
        """Above d = 42 a few outputs are timed and multiplied."""
        import heu.numpy as hnp
        import heu.phe

        kit = hnp.setup(heu.phe.SchemaType.ZPaillier, (primes[0] * primes[1]).bit_length())
        encoder, encryptor, evaluator, decryptor = kit.bigint_encoder(), kit.encryptor(), kit.evaluator(), kit.decryptor()
        d = case.dimension
        count = d if d <= 42 else _TIMED_OUTPUTS
        weights = hnp.array(np.array(case.weights, dtype=np.int64), encoder)
        matrix = hnp.array(np.array(case.matrix[:count], dtype=np.int64), encoder)
        offset = hnp.array(np.array([-entry for entry in case.offset[:count]], dtype=np.int64), encoder)
        zeros = hnp.array(np.zeros(count, dtype=np.int64), encoder)
        encrypted = encryptor.encrypt(weights)
        outputs: list[Any] = []

        def owner() -> None:
            outputs[:] = [evaluator.add(evaluator.matmul(matrix, encrypted), offset)]

        owner_seconds = cpu_seconds(owner, min(repeats, 3)) * d / count
        if decryptor.decrypt(outputs[0]).to_numpy(encoder).tolist() != case.gradient()[:count]:
            raise WrongResult
        note = "short-exponent randomness"
        if count < d:
            note += f"; extrapolated from {count} of {d} outputs"
        return Step(
            encrypt=cpu_seconds(lambda: encryptor.encrypt(weights), repeats),
            owner=owner_seconds,
            randomise=cpu_seconds(lambda: evaluator.add(outputs[0], encryptor.encrypt(zeros)), repeats) * d / count,
            decrypt=cpu_seconds(lambda: decryptor.decrypt(outputs[0]), repeats) * d / count,
            upload_bytes=len(encrypted.serialize()),
            download_bytes=len(outputs[0].serialize()) * d // count,
            error=0.0,
            note=note,
        )
