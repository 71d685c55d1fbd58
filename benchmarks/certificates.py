"""What the key certificate costs whoever makes a key and whoever meets one."""

from __future__ import annotations

from benchmarks.measuring import cpu_seconds
from benchmarks.report import Row, SectionResult
from benchmarks.run import Run
from hessian.paillier.certificate import prove_certificate, verify_certificate
from hessian.paillier.keys import PublicKey

_TEXT = "Processor milliseconds, medians. A node checks the modulus and the certificate once per model, before it joins."


def key_certificate(run: Run) -> SectionResult:
    """Proving, checking the modulus, verifying the proof."""
    return SectionResult("Key certificate", _TEXT, [_measured(run, bits, p, q) for bits, (p, q) in run.primes.items()])


def _measured(run: Run, bits: int, p: int, q: int) -> Row:
    run.say(f"key certificate, {bits} bits")
    certificate, key = prove_certificate(p, q), PublicKey(p * q)
    repeats, minimum = run.extent.repeats, run.extent.minimum_bits
    return {
        "key": bits,
        "prove": 1e3 * cpu_seconds(lambda: prove_certificate(p, q), repeats),
        "check the modulus": 1e3 * cpu_seconds(lambda: PublicKey.from_modulus(key.n, minimum_bits=minimum), repeats),
        "verify": 1e3 * cpu_seconds(lambda: verify_certificate(key, certificate), repeats),
        "bytes": sum(map(len, certificate.roots)),
    }
