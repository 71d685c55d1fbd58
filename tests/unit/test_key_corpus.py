"""Bad moduli of real size at every door: the key, the certificate, the manifest. None is accepted, and a huge one costs nothing.

Behind each modulus stands a prover who knows its factors and answers every challenge that has an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, reduce
from math import lcm, prod

import gmpy2
import pytest
from gmpy2 import mpz
from small_model import manifest as small_manifest

from hessian.artifacts.codec import ArtifactRefused, decode, encode
from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import Timestamp
from hessian.paillier.certificate import ROOTS, CertificateRefused, KeyCertificate, challenge, verify_certificate
from hessian.paillier.keys import MAXIMUM_BITS, ModulusRefused, PublicKey
from hessian.testing import valid_terms

BITS = 2048
Factors = tuple[int, ...]


def prime(bits: int, place: int = 0) -> int:
    """A prime of that length, always the same one; its top bits are ones, so that products keep their length."""
    return int(gmpy2.next_prime((1 << bits) - (1 << bits - 2) + (place << bits // 2)))


def small_primes(count: int, above: int) -> list[int]:
    primes = [int(gmpy2.next_prime(above))]
    while len(primes) < count:
        primes.append(int(gmpy2.next_prime(primes[-1])))
    return primes


@cache
def corpus() -> dict[str, Factors]:
    """Prime factors by name."""
    half, close = prime(BITS // 2), prime(BITS // 2)
    above = small_primes(16, 59_000)
    p = prime(900)
    divisor = 2 * p
    congruent = next(divisor * k + 1 for k in range(1 << 200, (1 << 200) + 10**6) if gmpy2.is_prime(divisor * k + 1))
    return {
        "even": (2, prime(BITS - 1)),
        "prime": (prime(BITS),),
        "square": (half, half),
        "cube": (prime(683),) * 3,
        "smallest factor": (3, prime(BITS - 1)),
        "largest screened factor": (int(gmpy2.prev_prime(1 << 20)), prime(BITS - 20)),
        "sixteen small primes times a large one": (*above, prime(BITS - 256)),
        "neighbouring primes": (close, int(gmpy2.next_prime(close))),
        "close primes": (close, int(gmpy2.next_prime(close + (1 << 500)))),
        "too short": (prime(1000), prime(1001)),
        "too long": tuple(prime(MAXIMUM_BITS // 8 + 1, place) for place in range(8)),
        "p divides q - 1": (p, congruent),
        "a square times a prime": (prime(600), prime(600), prime(850)),
    }


ONLY_THE_CERTIFICATE_TELLS = {"p divides q - 1", "a square times a prime"}
NAMES = ["even", "prime", "square", "cube", "smallest factor", "largest screened factor", "sixteen small primes times a large one",
         "neighbouring primes", "close primes", "too short", "too long", "p divides q - 1", "a square times a prime"]  # fmt: skip
NOTHING_TO_FORGE = {"prime", "neighbouring primes", "close primes", "too short"}
"""gcd(n, φ(n)) = 1: their certificates are true. It is not the certificate that refuses them."""


def answers(factors: Factors) -> KeyCertificate:
    """An n-th root of every challenge modulo every prime power where one can be found, joined; any number elsewhere."""
    key = PublicKey(prod(factors))
    powers = [(q, factors.count(q)) for q in sorted(set(factors))]
    roots = []
    for index in range(ROOTS):
        target, root, modulus = challenge(key, index), mpz(0), mpz(1)
        for q, count in powers:
            order, part = (q - 1) * mpz(q) ** (count - 1), mpz(q) ** count
            exponent = mpz(key.n)
            while (common := gmpy2.gcd(exponent, order)) > 1:
                exponent //= common
            local = gmpy2.powmod(target, gmpy2.invert(exponent, order) if order > 1 else 1, part)
            root += modulus * ((local - root) * gmpy2.invert(modulus, part) % part)
            modulus *= part
        roots.append(int(root % key.n).to_bytes(key.modulus_length, "big"))
    return KeyCertificate(tuple(roots))


def test_corpus__names__are_all_there() -> None:
    assert list(corpus()) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONLY_THE_CERTIFICATE_TELLS])
def test_from_modulus__of_the_corpus__is_refused(name: str) -> None:
    with pytest.raises(ModulusRefused):
        PublicKey.from_modulus(prod(corpus()[name]))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOTHING_TO_FORGE])
def test_verify__of_the_corpus__is_refused_however_well_the_prover_knows_its_factors(name: str) -> None:
    factors = corpus()[name]
    with pytest.raises(CertificateRefused):
        verify_certificate(PublicKey(prod(factors)), answers(factors))


@pytest.mark.parametrize("name", sorted(NOTHING_TO_FORGE))
def test_verify__a_bad_modulus_with_nothing_to_forge__is_true_and_its_key_is_refused_all_the_same(name: str) -> None:
    factors = corpus()[name]
    verify_certificate(PublicKey(prod(factors)), answers(factors))
    with pytest.raises(ModulusRefused):
        PublicKey.from_modulus(prod(factors))


@pytest.mark.parametrize("name", NAMES)
def test_manifest__with_a_modulus_of_the_corpus__is_refused_before_it_is_believed(name: str) -> None:
    factors = corpus()[name]
    n = prod(factors)
    plain = decode(small_manifest(valid_terms(Timestamp(0))).to_bytes())
    assert isinstance(plain, dict)
    roots = list(answers(factors).roots)
    forged = encode({**plain, "modulus": n.to_bytes((n.bit_length() + 7) // 8, "big"), "certificate": roots})

    with pytest.raises((ArtifactRefused, CertificateRefused)):
        ModelManifest.from_bytes(forged).verify_certificate()


def test_from_modulus__primes_just_above_the_screen__is_accepted_and_still_hides_what_is_sent() -> None:
    """Sixteen primes of 21 bits: whoever made this key can be read by anybody, and only it. A randomiser is uniform all the same."""
    factors = (*small_primes(16, 1 << 20), prime(BITS - 300))
    key = PublicKey.from_modulus(prod(factors))
    verify_certificate(key, answers(factors))
    order = reduce(lcm, (q - 1 for q in factors))
    assert gmpy2.gcd(key.n, order) == 1  # so r ↦ rⁿ loses nothing, modulo every factor


def fastest(attempt: Callable[[], None], tries: int = 10) -> float:
    seconds = []
    for _ in range(tries):
        start = time.process_time()
        attempt()
        seconds.append(time.process_time() - start)
    return min(seconds)


def test_a_million_bits__at_every_door__cost_less_than_a_single_multiplication_of_them() -> None:
    n = (1 << 1_000_000) | 1
    key, roots = PublicKey(n), KeyCertificate((n.to_bytes(125_001, "big"),) * ROOTS)
    plain = decode(small_manifest(valid_terms(Timestamp(0))).to_bytes())
    assert isinstance(plain, dict)
    forged = encode({**plain, "modulus": n.to_bytes(125_001, "big")})
    number = mpz(n)

    def refused(error: type[Exception], door: Callable[[], object]) -> Callable[[], None]:
        def attempt() -> None:
            with pytest.raises(error):
                door()

        return attempt

    square = fastest(lambda: (number * number, None)[1])
    assert fastest(refused(ModulusRefused, lambda: PublicKey.from_modulus(n))) < square
    assert fastest(refused(CertificateRefused, lambda: verify_certificate(key, roots))) < square
    assert fastest(refused(CertificateRefused, lambda: KeyCertificate.from_byte_strings(roots.roots))) < square
    assert fastest(refused(ArtifactRefused, lambda: ModelManifest.from_bytes(forged))) < 20 * square  # a megabit of bytes is read first
