"""Members of a cohort side by side: how much more two cores get done than one, each member's step in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from multiprocessing.synchronize import Barrier

from benchmarks.data import Case
from benchmarks.report import Row, SectionResult
from benchmarks.run import Run, named
from hessian.paillier.ciphertext import affine_map, randomiser
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.packing import pack, pack_columns, slot_layout

STEPS = 3
_SPAWN = multiprocessing.get_context("spawn")
_TEXT = (
    f"Time on the clock for {STEPS} owner's steps (packing, affine map, fresh randomisers) of one member alone, and of as many members "
    "as there are cores at once, each in a process of its own as the trainer's jobs are. The gain is work done per second against one "
    "alone; it is only true on a machine with nothing else to do."
)


def members(run: Run) -> SectionResult:
    """Every case and key length: one member, then as many as there are cores."""
    rows: list[Row] = []
    cores = len(os.sched_getaffinity(0))
    for case in run.largest_cases:
        for bits in run.extent.key_bits:
            run.say(f"{named(case)}, {bits} bits: {cores} members at once")
            pairs = [(_seconds(case, run.primes[bits], 1), _seconds(case, run.primes[bits], cores)) for _ in range(run.extent.repeats)]
            alone, together = (statistics.median(each) for each in zip(*pairs, strict=True))
            rows.append(
                {
                    "data": case.name,
                    "d": case.dimension,
                    "key": bits,
                    "members": cores,
                    "one alone, s": alone,
                    "all at once, s": together,
                    "gain": cores * alone / together,
                }
            )
    return SectionResult("Members side by side", _TEXT, rows)


def _seconds(case: Case, primes: tuple[int, int], members: int) -> float:
    """From the moment that all are ready to the end of the last."""
    ready, ends = _SPAWN.Barrier(members + 1), _SPAWN.SimpleQueue()
    children = [_SPAWN.Process(target=_member, args=(case, primes, ready, ends)) for _ in range(members)]
    for child in children:
        child.start()
    ready.wait()
    began = time.monotonic()
    last = max(ends.get() for _ in children)
    for child in children:
        child.join()
    return float(last - began)


def _member(case: Case, primes: tuple[int, int], ready: Barrier, ends: multiprocessing.SimpleQueue[float]) -> None:
    private = PrivateKey(*primes)
    key = private.public_key
    layout = slot_layout(key.bits, bound=case.slot_bound)
    encrypted, offsets = private.encrypt(case.weights), pack([-offset for offset in case.offset], layout)
    ready.wait()
    for _ in range(STEPS):
        affine_map(key, encrypted, pack_columns(case.matrix, layout), offsets, [randomiser(key) for _ in offsets])
    ends.put(time.monotonic())
