"""Paillier public keys, and the questions a modulus must answer before anything is computed with it (PROTOCOL §2).

The generator is always n + 1. `PublicKey.from_modulus` is the door for every modulus that comes from outside; the cheap questions come
first, so that a modulus of a million bits costs as little as a missing one. What these questions cannot show, that gcd(n, φ(n)) = 1,
is the business of `hessian.paillier.certificate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import gmpy2
from gmpy2 import mpz

from hessian.errors import Malformed
from hessian.identifiers import Digest, digest_of

DEFAULT_BITS = 3072
MINIMUM_BITS = 2048
MAXIMUM_BITS = 8192

SMALL_FACTOR_BITS = 20
"""No accepted modulus has a prime factor below 2²⁰. The key certificate's soundness rests on this number."""

FERMAT_STEPS = 1000
"""Steps of Fermat's factoring that a modulus must withstand: they find p and q whose distance is below about 90·n^(1/4)."""

PRIMALITY_ROUNDS = 25


class ModulusRefused(Malformed):
    """The Paillier modulus is not acceptable."""


@cache
def _product_of_small_primes() -> mpz:
    return gmpy2.primorial(1 << SMALL_FACTOR_BITS)


def has_small_factor(n: int) -> bool:
    """Whether some prime below 2²⁰ divides the positive n: one gcd with the product of them all (Goldberg et al., ePrint 2018/057)."""
    return bool(gmpy2.gcd(_product_of_small_primes() % n, n) != 1)


def _yields_to_fermat(n: int) -> bool:
    """Whether n = p·q with p and q so close that n is at once a difference of two squares (Fermat 1643)."""
    root = gmpy2.isqrt(mpz(n)) + 1
    difference = root * root - n
    for _ in range(FERMAT_STEPS):
        if gmpy2.is_square(difference):
            return True
        difference += 2 * root + 1
        root += 1
    return False


@dataclass(frozen=True)
class PublicKey:
    """A modulus. Constructed directly only from one's own primes; whatever was received goes through `from_modulus`."""

    n: int

    @classmethod
    def from_modulus(cls, n: int, *, minimum_bits: int = MINIMUM_BITS) -> PublicKey:
        """Accept a foreign modulus (PROTOCOL §2). `minimum_bits` below the default is for tests only.

        Raises ModulusRefused for what is not an int, has fewer than `minimum_bits` or more than 8192 bits, is even, has a prime factor
        below 2²⁰, is a perfect power, is prime, or has two factors so close together that Fermat's method finds them.
        """
        if type(n) is not int:
            raise ModulusRefused("a Paillier modulus is an integer")
        if n <= 0:
            raise ModulusRefused("a Paillier modulus is positive")
        bits = n.bit_length()
        if not minimum_bits <= bits <= MAXIMUM_BITS:
            raise ModulusRefused(f"a Paillier modulus has between {minimum_bits} and {MAXIMUM_BITS} bits, this one has {bits}")
        if n % 2 == 0:
            raise ModulusRefused("the Paillier modulus is even")
        if has_small_factor(n):
            raise ModulusRefused(f"the Paillier modulus has a prime factor below 2^{SMALL_FACTOR_BITS}")
        if gmpy2.is_power(mpz(n)):
            raise ModulusRefused("the Paillier modulus is a perfect power")
        if gmpy2.is_prime(mpz(n), PRIMALITY_ROUNDS):
            raise ModulusRefused("the Paillier modulus is prime")
        if _yields_to_fermat(n):
            raise ModulusRefused("the two factors of the Paillier modulus are too close together")
        return cls(n)

    @cached_property
    def n_squared(self) -> int:
        """Ciphertexts live below this."""
        return self.n * self.n

    @property
    def bits(self) -> int:
        """Bit length |n| of the modulus."""
        return self.n.bit_length()

    @property
    def modulus_length(self) -> int:
        """Bytes that hold any number below n."""
        return (self.bits + 7) // 8

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one ciphertext on the wire: fixed, so that a length tells nothing."""
        return 2 * self.modulus_length

    @property
    def modulus_bytes(self) -> bytes:
        """n, big-endian, in `modulus_length` bytes."""
        return self.n.to_bytes(self.modulus_length, "big")

    @cached_property
    def digest(self) -> Digest:
        """The key's name: the sha2-256 of its modulus bytes."""
        return digest_of(self.modulus_bytes)
