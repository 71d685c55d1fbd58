"""How far the owner's part is from its floor: its own operations at the rate at which GMP multiplies on this machine."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from gmpy2 import mpz

from benchmarks.data import Case
from benchmarks.measuring import cpu_seconds, in_fresh_process
from benchmarks.report import Row, SectionResult
from benchmarks.run import Run, named
from hessian.paillier.ciphertext import affine_map, randomiser
from hessian.paillier.clumps import Clumps
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.exponents import ExponentRow
from hessian.paillier.multiexp import recode
from hessian.paillier.packing import pack, pack_columns, slot_layout
from hessian.paillier.residues import split_all

_CALLS = 2000
_TEXT = (
    "The owner's affine map (checks, packing and recoding included, randomisers not) against two floors made of its own operations: "
    "squarings, look-ups and table entries. *Full size* prices each as one GMP multiplication and reduction modulo n², the textbook's "
    "unit; *halves* prices the half-size multiplications and divisions that the kernel really does, with nothing for Python, memory, "
    "packing or checks. Both rates are measured before and after each repetition, whose ratios the medians are of."
)


@dataclass(frozen=True)
class Operations:
    """What one affine map does, in multiplications of the group."""

    method: str
    squarings: int
    pairs: int
    singles: int
    entries: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.squarings + 2 * self.pairs + self.singles + self.entries


@dataclass(frozen=True)
class Rates:
    """Seconds of one GMP operation: on numbers of the size of n, and one multiplication with reduction modulo n²."""

    multiply: float
    square: float
    divide: float
    full: float

    def halves(self, count: Operations) -> float:
        """The floor in half-size operations: a look-up is multiplied in as one of a pair where there is one."""
        return (
            count.squarings * (self.square + self.multiply + 2 * self.divide)
            + count.pairs * (4 * self.multiply + 3 * self.divide)
            + (count.singles + count.entries) * 2 * (self.multiply + self.divide)
        )


def owner_floor(run: Run) -> SectionResult:
    """The owner's part of every case and key length against its floors."""
    rows: list[Row] = []
    for case in run.cases:
        for bits in run.extent.key_bits:
            run.say(f"{named(case)}, {bits} bits: floor")
            rows.append(in_fresh_process(_measured, case, run.primes[bits], run.extent.repeats).result)
    return SectionResult("The owner's part against its floor", _TEXT, rows)


def operations(case: Case, private: PrivateKey) -> Operations:
    """Count what the kernel does for a case: recode it and look."""
    key = private.public_key
    layout = slot_layout(key.bits, bound=case.slot_bound)
    multipliers = pack_columns(case.matrix, layout)
    recoding = recode([ExponentRow.of(row) for row in multipliers])
    table = recoding.table(split_all(private.encrypt(case.weights), mpz(key.n)), mpz(key.n))
    look_ups = [recoding.look_ups(c) for c in range(len(multipliers))]
    counts = [len(places) for output in look_ups for _, places in output]
    return Operations(
        method="clumps" if isinstance(recoding, Clumps) else "windows",
        squarings=sum(output[0][0] for output in look_ups if output),
        pairs=sum(count // 2 for count in counts),
        singles=sum(count % 2 for count in counts),
        entries=sum(1 for low in table.lows if low),
    )


def gmp_rates(n: int) -> Rates:
    """Measured on random numbers of the right sizes."""
    modulus = mpz(n)
    first, second = (mpz(secrets.randbelow(n)) for _ in range(2))
    product = first * second
    square = modulus * modulus
    long, other = (mpz(secrets.randbelow(n * n)) for _ in range(2))
    return Rates(
        multiply=_rate(lambda: first * second),
        square=_rate(lambda: first * first),
        divide=_rate(lambda: product % modulus),
        full=_rate(lambda: long * other % square),
    )


def _rate(operation: Callable[[], object]) -> float:
    """Seconds of one call: the least of five runs of many, less the price of calling nothing."""

    def seconds(task: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for _ in range(_CALLS):
                task()
            best = min(best, time.process_time() - start)
        return best / _CALLS

    return seconds(operation) - seconds(lambda: None)


def _measured(case: Case, primes: tuple[int, int], repeats: int) -> Row:
    private = PrivateKey(*primes)
    key = private.public_key
    layout = slot_layout(key.bits, bound=case.slot_bound)
    encrypted = private.encrypt(case.weights)
    offsets = pack([-offset for offset in case.offset], layout)
    count = operations(case, private)
    fresh = iter([[randomiser(key) for _ in offsets] for _ in range(repeats)])
    took, of_full, of_halves = [], [], []
    for _ in range(repeats):
        before = gmp_rates(key.n)
        seconds = cpu_seconds(lambda: affine_map(key, encrypted, pack_columns(case.matrix, layout), offsets, next(fresh)), 1)
        after = gmp_rates(key.n)
        took.append(seconds)
        of_full.append(2 * seconds / (count.total * (before.full + after.full)))
        of_halves.append(2 * seconds / (before.halves(count) + after.halves(count)))
    return {
        "data": case.name,
        "d": case.dimension,
        "n": case.rows,
        "key": key.bits,
        "recoding": count.method,
        "operations": count.total,
        "owner ms": 1e3 * statistics.median(took),
        "÷ full size": statistics.median(of_full),
        "÷ halves": statistics.median(of_halves),
    }
