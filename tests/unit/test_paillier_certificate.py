"""The key certificate convinces for a sound modulus and for no other."""

from __future__ import annotations

import hashlib
import secrets

import gmpy2
import pytest

from hessian.paillier.certificate import ROOTS, CertificateRefused, KeyCertificate, challenge, prove_certificate, verify_certificate
from hessian.paillier.decryption import generate_private_key
from hessian.paillier.keys import PublicKey

PRIVATE = generate_private_key(1024, minimum_bits=1024)
CERTIFICATE = prove_certificate(PRIVATE.p, PRIVATE.q)


def prime_above(number: int) -> int:
    return int(gmpy2.next_prime(number))


def prime_congruent_to_one(divisor: int) -> int:
    """The least prime of the form 2·k·divisor + 1."""
    candidate = 2 * divisor + 1
    while not gmpy2.is_prime(candidate):
        candidate += 2 * divisor
    return candidate


def best_forgery(key: PublicKey) -> KeyCertificate:
    """What a cheat has: numbers of the right shape whose n-th power is something else."""
    roots = [secrets.randbelow(key.n - 1) + 1 for _ in range(ROOTS)]
    return KeyCertificate(tuple(root.to_bytes(key.modulus_length, "big") for root in roots))


def test_verify__honest_certificate__passes_after_a_round_trip() -> None:
    verify_certificate(PRIVATE.public_key, KeyCertificate.from_byte_strings(CERTIFICATE.to_byte_strings()))


@pytest.mark.parametrize("bits", [512, 1022])
def test_verify__other_key_lengths__passes(bits: int) -> None:
    private = generate_private_key(bits, minimum_bits=bits)
    verify_certificate(private.public_key, prove_certificate(private.p, private.q))


def test_prove__same_key_twice__gives_the_same_certificate() -> None:
    assert prove_certificate(PRIVATE.p, PRIVATE.q) == CERTIFICATE


@pytest.mark.parametrize("index", range(ROOTS))
def test_verify__one_bit_changed__is_refused(index: int) -> None:
    roots = list(CERTIFICATE.roots)
    roots[index] = roots[index][:-1] + bytes([roots[index][-1] ^ 1])
    with pytest.raises(CertificateRefused, match=f"root {index}"):
        verify_certificate(PRIVATE.public_key, KeyCertificate(tuple(roots)))


def test_verify__roots_in_another_order__is_refused() -> None:
    with pytest.raises(CertificateRefused):
        verify_certificate(PRIVATE.public_key, KeyCertificate(CERTIFICATE.roots[::-1]))


def test_verify__certificate_of_another_key__is_refused() -> None:
    other = generate_private_key(1024, minimum_bits=1024)
    with pytest.raises(CertificateRefused):
        verify_certificate(other.public_key, CERTIFICATE)


def test_verify__root_written_as_root_plus_n__is_refused() -> None:
    private = generate_private_key(1022, minimum_bits=1022)
    key, certificate = private.public_key, prove_certificate(private.p, private.q)
    shifted = int.from_bytes(certificate.roots[0], "big") + key.n
    roots = (shifted.to_bytes(key.modulus_length, "big"), *certificate.roots[1:])
    with pytest.raises(CertificateRefused):
        verify_certificate(key, KeyCertificate(roots))


@pytest.mark.parametrize(
    "roots",
    [
        (),
        CERTIFICATE.roots[:-1],
        (*CERTIFICATE.roots, CERTIFICATE.roots[0]),
        (b"",) * ROOTS,
        tuple(b"\0" + root for root in CERTIFICATE.roots),
    ],
    ids=["none", "one missing", "one more", "empty", "longer"],
)
def test_verify__wrong_count_or_length__is_refused(roots: tuple[bytes, ...]) -> None:
    with pytest.raises(CertificateRefused):
        verify_certificate(PRIVATE.public_key, KeyCertificate(roots))


@pytest.mark.parametrize(
    "roots",
    [[], [b"\1"] * (ROOTS - 1), ["1"] * ROOTS, [7] * ROOTS, [bytes(1025)] * ROOTS],
    ids=["none", "one missing", "text", "numbers", "too long"],
)
def test_from_byte_strings__wrong_shape__is_refused(roots: list[bytes]) -> None:
    with pytest.raises(CertificateRefused):
        KeyCertificate.from_byte_strings(roots)


def test_prove__p_divides_q_minus_one__has_no_certificate() -> None:
    p = prime_above(3 << 400)
    q = prime_congruent_to_one(p)
    with pytest.raises(CertificateRefused):
        prove_certificate(p, q)
    key = PublicKey.from_modulus(p * q, minimum_bits=800)  # nothing else gives it away
    with pytest.raises(CertificateRefused):
        verify_certificate(key, best_forgery(key))


def test_verify__common_factor_just_above_the_screen__refuses_a_prover_who_answers_what_can_be_answered() -> None:
    """ℓ divides n and φ(n), with ℓ hardly above 2²⁰: the cheat knows the factors and still lacks roots for nearly every challenge."""
    factor = prime_above(1 << 20)
    q = prime_congruent_to_one(factor * prime_above(1 << 500))
    key = PublicKey(factor * q)
    exponent = gmpy2.invert(key.n, (q - 1) // factor)
    roots = []
    for index in range(ROOTS):
        target = challenge(key, index)
        root_q = gmpy2.powmod(target, exponent, q)
        root_factor = gmpy2.powmod(target, gmpy2.invert(key.n, factor - 1), factor)
        roots.append(int(root_q + q * ((root_factor - root_q) * gmpy2.invert(q, factor) % factor)))
    with pytest.raises(CertificateRefused, match="root 0"):
        verify_certificate(key, KeyCertificate(tuple(root.to_bytes(key.modulus_length, "big") for root in roots)))


def test_verify__sixteen_small_primes_times_a_large_one__is_refused() -> None:
    small = int(gmpy2.primorial(60_000) // gmpy2.primorial(59_800))
    key = PublicKey(small * prime_above(1 << 800))
    with pytest.raises(CertificateRefused, match="prime factor below"):
        verify_certificate(key, best_forgery(key))


@pytest.mark.parametrize(
    "n", [prime_above(3 << 500) ** 2, 2 * prime_above(3 << 1000), prime_above(3 << 300) ** 3], ids=["square", "even", "cube"]
)
def test_verify__square_even_or_cube__is_refused(n: int) -> None:
    key = PublicKey(n)
    with pytest.raises(CertificateRefused):
        verify_certificate(key, best_forgery(key))


def test_prove__equal_primes__is_refused() -> None:
    with pytest.raises(CertificateRefused):
        prove_certificate(PRIVATE.p, PRIVATE.p)


def test_challenge__derivation__never_changes() -> None:
    """Certificates outlive releases: label, lengths and reduction are part of the protocol."""
    n = (1 << 127) - 1
    message = b"hessian/paillier-key-certificate/1" + (16).to_bytes(4, "big") + n.to_bytes(16, "big") + (3).to_bytes(4, "big")
    expected = int.from_bytes(hashlib.shake_256(message).digest(32), "big") % n
    assert challenge(PublicKey(n), 3) == expected
    assert challenge(PublicKey(n), 4) != expected
