"""A modulus is questioned before anything is computed with it."""

from __future__ import annotations

import time

import gmpy2
import pytest

from hessian.paillier.decryption import generate_private_key
from hessian.paillier.keys import MAXIMUM_BITS, ModulusRefused, PublicKey

PRIVATE = generate_private_key(1024, minimum_bits=1024)
GOOD = PRIVATE.public_key.n


def prime_above(number: int) -> int:
    return int(gmpy2.next_prime(number))


LARGE_PRIME = prime_above(5 << 1021)

BAD_MODULI = {
    "zero": 0,
    "one": 1,
    "negative": -GOOD,
    "even": GOOD + 1,
    "prime": LARGE_PRIME,
    "square": prime_above(3 << 510) ** 2,
    "cube": prime_above(3 << 340) ** 3,
    "factor 3": 3 * prime_above(1 << 1023),
    "sixteen small primes": prime_above(1 << 770) * int(gmpy2.primorial(60_000) // gmpy2.primorial(59_800)),
    "largest screened factor": prime_above((1 << 20) - 30) * prime_above(1 << 1004),
    "close factors": prime_above(3 << 510) * prime_above((3 << 510) + (1 << 200)),
    "twin factors": prime_above(3 << 510) * prime_above(prime_above(3 << 510)),
    "one bit short": GOOD >> 2 | 1,
    "over the longest": 1 << MAXIMUM_BITS | 1,
}


@pytest.mark.parametrize("n", BAD_MODULI.values(), ids=BAD_MODULI.keys())
def test_from_modulus__bad_modulus__is_refused(n: int) -> None:
    with pytest.raises(ModulusRefused):
        PublicKey.from_modulus(n, minimum_bits=1023)


@pytest.mark.parametrize("n", [True, 3.0, str(GOOD), None, b"\x05", gmpy2.mpz(GOOD)], ids=["bool", "float", "str", "none", "bytes", "mpz"])
def test_from_modulus__not_an_int__is_refused(n: object) -> None:
    with pytest.raises(ModulusRefused, match="is an integer"):
        PublicKey.from_modulus(n, minimum_bits=1)  # type: ignore[arg-type]  # the point of the test


def test_from_modulus__product_of_two_good_primes__is_accepted() -> None:
    assert PublicKey.from_modulus(GOOD, minimum_bits=1024) == PRIVATE.public_key


def test_from_modulus__shorter_than_2048_bits__needs_the_explicit_switch() -> None:
    with pytest.raises(ModulusRefused, match="between 2048 and 8192 bits, this one has 1024"):
        PublicKey.from_modulus(GOOD)


def test_from_modulus__a_million_bits__is_refused_before_any_arithmetic() -> None:
    n = (1 << 1_000_000) | 1
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        with pytest.raises(ModulusRefused):
            PublicKey.from_modulus(n)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.001


def test_refusal__any_modulus__does_not_print_the_number() -> None:
    with pytest.raises(ModulusRefused) as refusal:
        PublicKey.from_modulus(GOOD)
    assert str(GOOD)[:20] not in refusal.value.sentence


def test_public_key__lengths__are_fixed_by_the_modulus() -> None:
    key = PRIVATE.public_key
    assert (key.bits, len(key.modulus_bytes), key.ciphertext_bytes) == (1024, 128, 256)
    assert int.from_bytes(key.modulus_bytes, "big") == key.n
    assert (key.n_squared - 1).bit_length() <= 8 * key.ciphertext_bytes


def test_digest__two_keys__differ() -> None:
    assert PRIVATE.public_key.digest != PublicKey(LARGE_PRIME).digest
    assert PRIVATE.public_key.digest == PublicKey(GOOD).digest
