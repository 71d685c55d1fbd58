"""What a second core brings the owner: the trainer's own way to spread a step over forked helpers, on the clock."""

from __future__ import annotations

import os

from benchmarks.data import Case
from benchmarks.measuring import in_fresh_process, wall_seconds
from benchmarks.report import Row, SectionResult
from benchmarks.run import Run, named, ratio
from hessian.paillier.ciphertext import affine_map
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.packing import pack, pack_columns, slot_layout
from trainer.cores import spread_over

_TEXT = (
    "Milliseconds on the clock, medians, of the owner's whole part: the map and fresh randomisers. One process, then as many as there are "
    "cores. The table is made before the processes part, and a step of one ciphertext has only its randomiser to give away."
)


def several_cores(run: Run) -> SectionResult:
    """One row per dimension and key length."""
    cores = os.cpu_count() or 1
    rows: list[Row] = []
    for case in run.largest_cases:
        for bits in run.extent.key_bits:
            run.say(f"{named(case)}, {bits} bits: 1 and {cores} cores")
            (alone, together, outputs), _ = in_fresh_process(_measured, case, run.primes[bits], min(run.extent.repeats, 3), cores)
            rows.append(
                {
                    "d": case.dimension,
                    "key": bits,
                    "ciphertexts": outputs,
                    "1 process": 1e3 * alone,
                    f"{cores} processes": 1e3 * together,
                    "faster ×": ratio(alone, together),
                }
            )
    return SectionResult("Several cores", _TEXT, rows)


def _measured(case: Case, primes: tuple[int, int], repeats: int, cores: int) -> tuple[float, float, int]:
    private = PrivateKey(*primes)
    key = private.public_key
    layout = slot_layout(key.bits, bound=case.slot_bound)
    encrypted = private.encrypt(case.weights)
    offsets = pack([-offset for offset in case.offset], layout)

    def seconds(workers: int) -> float:
        spread = spread_over(workers)
        return wall_seconds(
            lambda: affine_map(key, encrypted, pack_columns(case.matrix, layout), offsets, spread=spread),
            repeats,
        )

    return seconds(1), seconds(cores), len(offsets)
