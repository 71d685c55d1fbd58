"""The lender's side: making a key, encrypting with it, and the only file that opens a ciphertext. Only lender_api may import it.

Everything is done modulo p² and q² and joined by the Chinese remainder theorem. The n-th residues modulo p² are the cyclic group of order
p − 1, so a uniform power of a generator is a uniform randomiser, with no assumption about short exponents; one table of the generator's
powers makes it a handful of multiplications (docs/kernel.md). To know a generator one must know the prime factors of p − 1, so keys are
made with p = 2·k·p′ + 1 for a prime p′ and a small k. Other primes work too, by a full exponentiation per number.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import gmpy2
from gmpy2 import mpz

from hessian.errors import Malformed
from hessian.paillier.blinding import check_blinding
from hessian.paillier.ciphertext import check_ciphertexts, require_plaintext
from hessian.paillier.comb import FixedBaseComb
from hessian.paillier.keys import DEFAULT_BITS, MAXIMUM_BITS, MINIMUM_BITS, PRIMALITY_ROUNDS, PublicKey

_COFACTOR_BITS = 16
"""k in p = 2·k·p′ + 1 has at most this many bits, so that trial division always recovers the factors of p − 1."""

_LEAST_TEST_BITS = 128


class PrivateKeyRefused(Malformed):
    """These are not the two primes of a Paillier key."""


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """Two distinct primes of the same length. Never printed, never logged: `repr` shows the public digest only.

    Raises PrivateKeyRefused for anything else.
    """

    p: int
    q: int

    def __post_init__(self) -> None:
        primes = (self.p, self.q)
        if any(type(prime) is not int or prime < 3 or prime.bit_length() > MAXIMUM_BITS // 2 for prime in primes):
            raise PrivateKeyRefused("a private key is two odd numbers of at most half the longest modulus's length")
        if self.p == self.q or self.p.bit_length() != self.q.bit_length():
            raise PrivateKeyRefused("the two primes of a key are distinct and of the same length")
        if not all(gmpy2.is_prime(mpz(prime), PRIMALITY_ROUNDS) for prime in primes):
            raise PrivateKeyRefused("a private key is two prime numbers")

    def __repr__(self) -> str:
        return f"PrivateKey({self.public_key.digest.hex()[:16]}…)"

    @cached_property
    def public_key(self) -> PublicKey:
        """The modulus n = p·q."""
        return PublicKey(self.p * self.q)

    @cached_property
    def _half_p(self) -> _PrimeHalf:
        return _PrimeHalf(self.p, self.q)

    @cached_property
    def _half_q(self) -> _PrimeHalf:
        return _PrimeHalf(self.q, self.p)

    @cached_property
    def _p_inverse(self) -> mpz:
        return gmpy2.invert(self.p, self.q)

    @cached_property
    def _p_squared_inverse(self) -> mpz:
        return gmpy2.invert(self.p**2, self.q**2)

    def encrypt(self, plaintexts: Sequence[int]) -> list[int]:
        """A fresh ciphertext for each of k plaintexts in (−n/2, n/2). Raises PlaintextOverflow.

        Paillier 1999, §4 and §7 (Chinese remainders), with the randomiser as a uniform power of a generator. Same distribution as
        `ciphertext.encrypt` with `ciphertext.randomiser`, at a fraction of the price.
        """
        ciphertexts = []
        for plaintext in plaintexts:
            require_plaintext(self.public_key, plaintext)
            residue_p, residue_q = self._half_p.residue(), self._half_q.residue()
            lift = (residue_q - residue_p) * self._p_squared_inverse % self._half_q.square
            fresh = residue_p + self._half_p.square * lift
            ciphertexts.append(int((1 + plaintext * mpz(self.public_key.n)) * fresh % self.public_key.n_squared))
        return ciphertexts

    def decrypt(self, ciphertext: int) -> int:
        """The plaintext in [0, n): centre it for a signed one. Raises CiphertextRefused before anything secret is computed.

        Paillier 1999, §7: modulo p² and q², joined by Chinese remainders. Powers with a secret exponent take the same time for every
        exponent of that length.
        """
        check_ciphertexts(self.public_key, [ciphertext])
        plain_p, plain_q = self._half_p.open(ciphertext), self._half_q.open(ciphertext)
        return int(plain_p + self.p * ((plain_q - plain_p) * self._p_inverse % self.q))

    def decrypt_blinded(self, ciphertext: int, blinding_bits: int) -> int:
        """A blinded score: the plaintext in [0, n), reduced modulo 2^t, centred into [−2^(t−1), 2^(t−1)) (PROTOCOL §10).

        Raises CiphertextRefused. The rest of the plaintext is forgotten here.
        """
        low = self.decrypt(ciphertext) % (1 << blinding_bits)
        return low - ((low >> (blinding_bits - 1)) << blinding_bits)

    def opens_blinded(self, ciphertext: int, score: int, blinding: int, blinding_bits: int) -> bool:
        """Whether the ciphertext holds score + blinding·2^t mod n, for a blinding that `check_blinding` accepts.

        Raises CiphertextRefused, BlindingRefused.
        """
        check_blinding(self.public_key, blinding, blinding_bits)
        return self.decrypt(ciphertext) == (score + (blinding << blinding_bits)) % self.public_key.n

    def to_bytes(self) -> bytes:
        """p and q, big-endian, each in half of the |n|/8 bytes: for the vault, in clear."""
        length = (self.p.bit_length() + 7) // 8
        return self.p.to_bytes(length, "big") + self.q.to_bytes(length, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> PrivateKey:
        """Read `to_bytes` back. Raises PrivateKeyRefused for anything that is not two primes of the same length."""
        if len(data) > MAXIMUM_BITS // 8 or len(data) % 2:
            raise PrivateKeyRefused("a private key is two primes of the same length")
        half = len(data) // 2
        return cls(int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big"))


def generate_private_key(bits: int = DEFAULT_BITS, *, minimum_bits: int = MINIMUM_BITS) -> PrivateKey:
    """A fresh key with a modulus of exactly `bits` bits. `minimum_bits` below the default is for tests only.

    Primes as FIPS 186-5, A.1.3 asks for their size and distance, of the form 2·k·p′ + 1. Raises PrivateKeyRefused for a length that is odd
    or out of bounds. Takes a few seconds at 3072 bits.
    """
    if bits % 2 or not max(minimum_bits, _LEAST_TEST_BITS) <= bits <= MAXIMUM_BITS:
        raise PrivateKeyRefused(f"a key has an even number of bits between {minimum_bits} and {MAXIMUM_BITS}")
    while True:
        p, q = _random_prime(bits // 2), _random_prime(bits // 2)
        if (abs(p - q) >> max(bits // 2 - 100, 0)) > 0:  # FIPS 186-5, A.1.3: far enough apart for Fermat's method
            return PrivateKey(p, q)


def _random_prime(bits: int) -> int:
    """A prime p = 2·k·p′ + 1 between √½·2^bits and 2^bits, with p′ prime and k below 2^16, so that the factors of p − 1 are known."""
    lowest = int(gmpy2.isqrt(mpz(1) << (2 * bits - 1))) + 1
    while True:
        factor = secrets.randbits(bits - _COFACTOR_BITS) | 1 << (bits - _COFACTOR_BITS - 1) | 1
        if not gmpy2.is_prime(mpz(factor), PRIMALITY_ROUNDS):
            continue
        first, beyond = -(-(lowest - 1) // (2 * factor)), ((1 << bits) - 1) // (2 * factor)
        for _ in range(4 * bits):
            candidate = 2 * (first + secrets.randbelow(beyond - first)) * factor + 1
            if gmpy2.is_prime(mpz(candidate), PRIMALITY_ROUNDS):
                return candidate


def _prime_factors(number: int) -> list[int] | None:
    """The distinct prime factors of a number that is primes below 2^16 times at most one large prime; None for any other number."""
    small = int(gmpy2.gcd(number, gmpy2.primorial(1 << _COFACTOR_BITS)))
    factors, divisor = [], 2
    while divisor * divisor <= small:
        if small % divisor == 0:
            factors.append(divisor)
            small //= divisor
        divisor += 1
    if small > 1:
        factors.append(small)
    rest = mpz(number)
    for factor in factors:
        rest = gmpy2.remove(rest, factor)[0]
    if rest > 1:
        if not gmpy2.is_prime(rest, PRIMALITY_ROUNDS):
            return None
        factors.append(int(rest))
    return factors


class _PrimeHalf:
    """Arithmetic modulo p² for one prime p of the key; `other` is the second prime."""

    def __init__(self, prime: int, other: int) -> None:
        self.prime = mpz(prime)
        self.square = self.prime * self.prime
        self.other = other
        # (1 + n)^(p−1) = 1 + (p−1)·n = 1 − n modulo p², and n/p is the other prime: L of it is −other
        self.scale = gmpy2.invert(-other, self.prime)

    @cached_property
    def comb(self) -> FixedBaseComb | None:
        """Powers of a generator of the n-th residues modulo p²; None when the factors of p − 1 cannot be found."""
        factors = _prime_factors(int(self.prime) - 1)
        if factors is None:
            return None
        while True:
            root = mpz(2 + secrets.randbelow(int(self.prime) - 3))
            if all(gmpy2.powmod(root, (self.prime - 1) // factor, self.prime) != 1 for factor in factors):
                return FixedBaseComb(gmpy2.powmod(root, self.prime, self.square), self.prime, self.prime.bit_length())

    def residue(self) -> mpz:
        """A uniform n-th residue modulo p²."""
        if self.comb is not None:
            return self.comb.power(secrets.randbelow(int(self.prime) - 1))
        return gmpy2.powmod_sec(1 + secrets.randbelow(int(self.prime) - 1), self.prime, self.square)

    def open(self, ciphertext: int) -> mpz:
        """The plaintext modulo p: L(c^(p−1) mod p²) / L((1 + n)^(p−1) mod p²) with L(u) = (u − 1)/p."""
        power = gmpy2.powmod_sec(ciphertext % self.square, self.prime - 1, self.square)
        return (power - 1) // self.prime * self.scale % self.prime
