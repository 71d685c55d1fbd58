"""The lender's private key: made well, kept quiet, and in agreement with an independent implementation (phe)."""

from __future__ import annotations

import gmpy2
import numpy as np
import phe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.paillier.ciphertext import affine_map, encrypt, randomiser
from hessian.paillier.decryption import PrivateKey, PrivateKeyRefused, generate_private_key
from hessian.paillier.fixed_point import centre
from hessian.paillier.keys import PublicKey
from hessian.paillier.packing import pack, pack_columns, slot_layout, unpack

PRIVATE = generate_private_key(512, minimum_bits=512)
KEY = PRIVATE.public_key
ORACLE_PUBLIC = phe.PaillierPublicKey(KEY.n)
ORACLE = phe.PaillierPrivateKey(ORACLE_PUBLIC, PRIVATE.p, PRIVATE.q)


def prime_above(number: int) -> int:
    return int(gmpy2.next_prime(number))


UNSTRUCTURED = PrivateKey(prime_above(3 << 254), prime_above(7 << 253))
"""Primes whose predecessors do not factor easily: encryption takes its other path."""

residues = st.one_of(st.integers(0, KEY.n - 1), st.sampled_from([0, 1, KEY.n - 1]))
plaintexts = st.one_of(st.integers(-(KEY.n // 2), KEY.n // 2), st.sampled_from([0, KEY.n // 2, -(KEY.n // 2)]))


@settings(deadline=None)
@given(plaintexts)
def test_encrypt__ours__phe_decrypts_it(plaintext: int) -> None:
    for ciphertext in [*PRIVATE.encrypt([plaintext]), encrypt(KEY, plaintext, randomiser(KEY))]:
        assert centre(ORACLE.raw_decrypt(ciphertext), KEY.n) == plaintext


@settings(deadline=None)
@given(residues)
def test_decrypt__ciphertext_by_phe__is_the_plaintext(residue: int) -> None:
    assert PRIVATE.decrypt(ORACLE_PUBLIC.raw_encrypt(residue)) == residue


@settings(deadline=None, max_examples=20)
@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_affine_map__against_phe__agrees(weight: int, multiplier: int, offset: int) -> None:
    [ciphertext] = affine_map(KEY, PRIVATE.encrypt([weight]), [[multiplier]], [offset])
    by_phe = phe.EncryptedNumber(ORACLE_PUBLIC, PRIVATE.encrypt([weight])[0]) * multiplier + offset
    assert centre(ORACLE.raw_decrypt(ciphertext), KEY.n) == ORACLE.decrypt(by_phe) == weight * multiplier + offset


def test_affine_map__a_packed_matrix_over_many_weights__agrees_with_phe() -> None:
    """Many outputs share one table here; phe takes every product by itself."""
    draw = np.random.default_rng(11)
    matrix = draw.integers(-(1 << 12), 1 << 12, size=(24, 24)).tolist()
    weights, offset = draw.integers(-1000, 1000, size=24).tolist(), draw.integers(-1000, 1000, size=24).tolist()
    layout = slot_layout(KEY.bits, bound=24 * (1 << 12) * 1000 + 1000)
    encrypted = PRIVATE.encrypt(weights)
    outputs = affine_map(KEY, encrypted, pack_columns(matrix, layout), pack(offset, layout))
    numbers = [phe.EncryptedNumber(ORACLE_PUBLIC, ciphertext) for ciphertext in encrypted]
    by_phe = [
        ORACLE.decrypt(sum((number * entry for number, entry in zip(numbers[1:], row[1:], strict=True)), numbers[0] * row[0]) + extra)
        for row, extra in zip(matrix, offset, strict=True)
    ]
    assert unpack([centre(ORACLE.raw_decrypt(output), KEY.n) for output in outputs], layout, 24) == by_phe


@pytest.mark.parametrize("private", [PRIVATE, UNSTRUCTURED], ids=["made here", "other primes"])
def test_encrypt__same_plaintext__never_repeats_and_always_decrypts(private: PrivateKey) -> None:
    ciphertexts = private.encrypt([5] * 40)
    assert len(set(ciphertexts)) == 40
    assert [private.decrypt(ciphertext) for ciphertext in ciphertexts] == [5] * 40


def test_encrypt__tiny_key__reaches_every_randomiser_evenly() -> None:
    """The table's base generates all n-th residues: each of them appears, none more often than chance allows."""
    private = PrivateKey(11, 13)
    n, n2 = 143, 143**2
    everything = {pow(r, n, n2) for r in range(n) if gmpy2.gcd(r, n) == 1}
    drawn = private.encrypt([0] * 12_000)
    counts = {residue: drawn.count(residue) for residue in everything}
    assert set(drawn) == everything
    assert len(everything) == 120
    assert all(40 < count < 180 for count in counts.values())  # expected 100 ± 10


def test_residues__structured_key__come_from_the_table() -> None:
    assert PRIVATE._half_p.comb is not None
    assert UNSTRUCTURED._half_p.comb is None


@pytest.mark.parametrize("bits", [256, 512, 770])
def test_generate__any_even_length__has_exactly_that_many_bits_and_passes_every_question(bits: int) -> None:
    private = generate_private_key(bits, minimum_bits=bits)
    assert private.public_key.bits == bits
    assert private.p.bit_length() == private.q.bit_length() == bits // 2
    assert PublicKey.from_modulus(private.public_key.n, minimum_bits=bits) == private.public_key
    assert gmpy2.gcd(private.public_key.n, (private.p - 1) * (private.q - 1)) == 1


@pytest.mark.parametrize(("bits", "minimum"), [(1024, 2048), (2047, 2048), (8194, 2048), (64, 64), (0, 0)])
def test_generate__length_out_of_bounds__is_refused(bits: int, minimum: int) -> None:
    with pytest.raises(PrivateKeyRefused):
        generate_private_key(bits, minimum_bits=minimum)


def test_from_bytes__round_trip__is_the_same_key() -> None:
    data = PRIVATE.to_bytes()
    assert len(data) == 64
    assert PrivateKey.from_bytes(data) == PRIVATE


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", bytes(64), PRIVATE.to_bytes()[:-1], PRIVATE.to_bytes() + b"\0\0", PRIVATE.to_bytes()[:32] * 2, bytes(100_000)],
    ids=["empty", "zero", "zeros", "cut", "longer", "the same prime twice", "far too long"],
)
def test_from_bytes__not_a_key__is_refused(data: bytes) -> None:
    with pytest.raises(PrivateKeyRefused):
        PrivateKey.from_bytes(data)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (PRIVATE.p, PRIVATE.p),
        (PRIVATE.p, 7),
        (PRIVATE.p - 1, PRIVATE.q),
        (PRIVATE.p, -PRIVATE.q),
        (float(7), 5),
        (True, True),
        (3, 2),
        (1 << 5000 | 1, 1 << 5000 | 3),
    ],
    ids=["equal", "unequal lengths", "even", "negative", "float", "bool", "two", "too long"],
)
def test_private_key__not_two_primes_of_one_length__is_refused(p: int, q: int) -> None:
    with pytest.raises(PrivateKeyRefused):
        PrivateKey(p, q)


def test_private_key__printed__shows_no_secret() -> None:
    shown = f"{PRIVATE!r} {PRIVATE}"
    assert str(PRIVATE.p) not in shown
    assert hex(PRIVATE.p)[2:20] not in shown
    assert str(PRIVATE.q) not in shown
