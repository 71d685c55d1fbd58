"""The first table: one gradient step, every library, the same data and key lengths, in one run."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.data import Case
from benchmarks.measuring import MEGABYTE, Measured, in_fresh_process
from benchmarks.peers import PEERS
from benchmarks.peers.peer import Peer, Step
from benchmarks.report import Row, SectionResult
from benchmarks.run import Run, named

_TEXT = (
    "Processor milliseconds, medians, of one gradient step: the lender encrypts d weights, the owner applies its d × d map, gives what "
    "leaves fresh randomness, the lender decrypts. *Pace* is how much longer a fixed piece of arithmetic took meanwhile than at its "
    "fastest in this run; × is the whole step against this project's, both divided by their pace. Peak memory is the whole process's. "
    "Every result was checked, the exact ones to the last integer. The fair comparison is the row *same statistics, re-randomised*: same "
    "trick, same randomness, same key. A row that is not re-randomised does less: with its result a guess of the owner's data can be "
    "confirmed. CKKS has no Paillier key; it stands beside each for the ratio."
)


def one_step(run: Run) -> SectionResult:
    """Every peer on every case; what does not depend on n, or on a key, is measured once."""
    measured: list[tuple[Case, int, Peer, Measured[Step], Measured[Step]]] = []
    absent = [f"{peer.name}: {reason}." for peer in PEERS if (reason := peer.missing()) is not None]
    for case in run.cases:
        for bits in run.extent.key_bits:
            own: Measured[Step] | None = None
            for peer in _wanted(run, case):
                run.say(f"{named(case)}, {bits} bits: {peer.name}")
                one = in_fresh_process(peer.step, case, run.primes[bits], run.extent.repeats)
                own = own or one
                measured.append((case, bits, peer, one, own))
    fastest = min(one.pace for _, _, _, one, _ in measured)
    rows = [_row(*each, fastest) for each in measured]
    return SectionResult("One gradient step", " ".join([_TEXT, *absent]), rows)


def _wanted(run: Run, case: Case) -> Iterator[Peer]:
    """This project everywhere; a peer whose time does not grow with n only at the largest n, one without a Paillier key beside each key."""
    for peer in PEERS:
        if peer.missing() is None and (peer is PEERS[0] or peer.by_rows or case in run.largest_cases):
            yield peer


def _row(case: Case, bits: int, peer: Peer, measured: Measured[Step], own: Measured[Step], fastest: float) -> Row:
    step = measured.result
    return {
        "data": case.name,
        "d": case.dimension,
        "n": case.rows,
        "key": bits,
        "library": peer.name,
        "encrypt": 1e3 * step.encrypt,
        "owner": 1e3 * step.owner,
        "randomisers": 1e3 * step.randomise if step.randomise else None,
        "decrypt": 1e3 * step.decrypt,
        "whole": 1e3 * step.whole,
        "pace": measured.pace / fastest,
        "×": (step.whole / measured.pace) / (own.result.whole / own.pace),
        "re-randomised": "yes" if peer.rerandomises else "no",
        "up kB": step.upload_bytes / 1e3,
        "down kB": step.download_bytes / 1e3,
        "peak MB": measured.peak_bytes / MEGABYTE,
        "error": step.error or "exact",
        "note": step.note,
    }
