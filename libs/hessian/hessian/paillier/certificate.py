"""The key certificate: a non-interactive proof that gcd(n, φ(n)) = 1 (PROTOCOL §2).

After Goldberg, Reyzin, Sagga, Baldimtsi, "Efficient Noninteractive Certification of RSA Moduli and Beyond" (ePrint 2018/057).
The prover publishes the n-th roots modulo n of m challenges that a hash derives from n. The verifier makes sure that no prime below
α = 2²⁰ divides n, and raises each root to the power n.

Why that convinces: suppose a prime ℓ divides both n and φ(n). As it divides n, ℓ > α. As it divides n and the order φ(n) of the group
Z*_n, raising to the n-th power maps that group onto a subgroup of index at least ℓ, so a uniform challenge has a root with a probability
below 1/α, and m independent ones below α^−m = 2^−140 for m = 7. A prover may try many moduli, but each try is one draw of that lottery
in the random-oracle model.

Why it matters: with gcd(n, φ(n)) = 1 (n is then square-free too) r → rⁿ is a bijection from Z*_n onto the n-th residues modulo n²: a
fresh randomiser hides everything but the plaintext, even from whoever made the key. The certificate reveals nothing: (σⁿ, σ) for random σ
has the same distribution. It says nothing about how many primes n has: a lender with a weak modulus exposes its own model, not the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import gmpy2
from gmpy2 import mpz

from hessian.errors import Malformed
from hessian.paillier.keys import MAXIMUM_BITS, SMALL_FACTOR_BITS, PublicKey, has_small_factor

_LABEL = b"hessian/paillier-key-certificate/1"
_SOUNDNESS_BITS = 128
_EXCESS_BITS = 128

ROOTS = -(-_SOUNDNESS_BITS // SMALL_FACTOR_BITS)
"""m = ⌈128 / log₂ α⌉ = 7 challenges."""


class CertificateRefused(Malformed):
    """The key certificate does not prove that this modulus is sound."""


@dataclass(frozen=True)
class KeyCertificate:
    """The n-th roots of the challenges, in order, each big-endian in exactly the modulus's length. Untrusted until verified."""

    roots: tuple[bytes, ...]

    def to_byte_strings(self) -> list[bytes]:
        """The roots, as the model manifest carries them."""
        return list(self.roots)

    @classmethod
    def from_byte_strings(cls, roots: Sequence[bytes]) -> KeyCertificate:
        """Read from a manifest. Raises CertificateRefused for a wrong count or type, or a root longer than any accepted modulus."""
        if len(roots) != ROOTS or any(type(root) is not bytes or len(root) > MAXIMUM_BITS // 8 for root in roots):
            raise CertificateRefused(f"a key certificate is {ROOTS} byte strings no longer than the modulus")
        return cls(tuple(roots))


def challenge(public_key: PublicKey, index: int) -> mpz:
    """The challenge with this index: |n| + 128 bits of SHAKE-256 over label, n and index, reduced modulo n (2^−128 from uniform)."""
    modulus = public_key.modulus_bytes
    message = _LABEL + len(modulus).to_bytes(4, "big") + modulus + index.to_bytes(4, "big")
    digest = hashlib.shake_256(message).digest((public_key.bits + _EXCESS_BITS + 7) // 8)
    return mpz(int.from_bytes(digest, "big")) % public_key.n


def prove_certificate(p: int, q: int) -> KeyCertificate:
    """The certificate of n = p·q, computed modulo each prime and joined (ePrint 2018/057).

    Raises CertificateRefused when gcd(n, φ(n)) ≠ 1: then some challenge has no root.
    """
    key = PublicKey(p * q)
    if p == q or gmpy2.gcd(key.n, (p - 1) * (q - 1)) != 1:
        raise CertificateRefused("n and φ(n) have a common factor: no certificate exists for these primes")
    exponent_p, exponent_q = gmpy2.invert(key.n, p - 1), gmpy2.invert(key.n, q - 1)
    p_inverse = gmpy2.invert(p, q)
    roots = []
    for index in range(ROOTS):
        target = challenge(key, index)
        root_p, root_q = gmpy2.powmod_sec(target, exponent_p, p), gmpy2.powmod_sec(target, exponent_q, q)
        root = root_p + p * ((root_q - root_p) * p_inverse % q)
        roots.append(int(root).to_bytes(key.modulus_length, "big"))
    return KeyCertificate(tuple(roots))


def verify_certificate(public_key: PublicKey, certificate: KeyCertificate) -> None:
    """Raise CertificateRefused unless the certificate proves gcd(n, φ(n)) = 1 for a modulus without small factors.

    ePrint 2018/057. Costs seven exponentiations modulo n. The modulus itself has passed `PublicKey.from_modulus`.
    """
    n = mpz(public_key.n)
    if len(certificate.roots) != ROOTS:
        raise CertificateRefused(f"a key certificate has {ROOTS} roots")
    if public_key.bits > MAXIMUM_BITS:
        raise CertificateRefused(f"a certified modulus has at most {MAXIMUM_BITS} bits")
    if n % 2 == 0 or has_small_factor(public_key.n):
        raise CertificateRefused(f"the modulus has a prime factor below 2^{SMALL_FACTOR_BITS}")
    for index, data in enumerate(certificate.roots):
        if type(data) is not bytes or len(data) != public_key.modulus_length:
            raise CertificateRefused("a root of the key certificate does not have the modulus's length")
        root, target = mpz(int.from_bytes(data, "big")), challenge(public_key, index)
        if not 0 < root < n or gmpy2.gcd(target, n) != 1 or gmpy2.powmod(root, n, n) != target:
            raise CertificateRefused(f"root {index} of the key certificate is not an n-th root of its challenge")
