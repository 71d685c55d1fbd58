"""The blinded product: opens to the score's low bits, at both ends of R, and never twice to the same bytes."""

from __future__ import annotations

import secrets
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.paillier.blinding import BlindingRefused, blinded_product, check_blinding, draw_blinding
from hessian.paillier.ciphertext import CiphertextRefused
from hessian.paillier.decryption import PrivateKey, generate_private_key

PRIVATE = generate_private_key(512, minimum_bits=512)
KEY, N = PRIVATE.public_key, PRIVATE.public_key.n


@cache
def encrypted(weights: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(PRIVATE.encrypt(weights))


def ends(bits: int) -> tuple[int, int]:
    """The least and the largest R."""
    return 1, (N >> bits) - 2


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 40), st.lists(st.integers(-11, 11), min_size=4, max_size=4), st.sampled_from(["low", "high", "drawn"]))
def test_decrypt_blinded__of_a_blinded_product__is_the_score(bits: int, features: list[int], where: str) -> None:
    weights = (3, -1, 0, 7)
    score = sum(w * x for w, x in zip(weights, features, strict=True))
    assert abs(score) < 1 << (bits - 1)
    blinding = {"low": ends(bits)[0], "high": ends(bits)[1], "drawn": draw_blinding(KEY, bits)}[where]
    ciphertext = blinded_product(KEY, encrypted(weights), features, blinding, bits)
    assert PRIVATE.decrypt_blinded(ciphertext, bits) == score


@pytest.mark.parametrize("bits", [8, 32, 40])
@pytest.mark.parametrize("end", [0, 1], ids=["least R", "largest R"])
def test_decrypt_blinded__extreme_scores_at_both_ends_of_r__keep_their_sign(bits: int, end: int) -> None:
    limit = 1 << (bits - 1)
    for score in (-limit + 1, -1, 0, 1, limit - 1):
        ciphertext = blinded_product(KEY, encrypted((1,)), [score], ends(bits)[end], bits)
        assert PRIVATE.decrypt_blinded(ciphertext, bits) == score
        assert 0 < PRIVATE.decrypt(ciphertext) < N  # an honest score never wraps around
        assert PRIVATE.decrypt(ciphertext) == score + (ends(bits)[end] << bits)


@pytest.mark.parametrize("bits", [8, 32, 40])
def test_check_blinding__beyond_either_end__is_refused(bits: int) -> None:
    low, high = ends(bits)
    check_blinding(KEY, low, bits)
    check_blinding(KEY, high, bits)
    for blinding in (0, -1, high + 1, N, True):
        with pytest.raises(BlindingRefused):
            check_blinding(KEY, blinding, bits)
        with pytest.raises(BlindingRefused):
            blinded_product(KEY, encrypted((1,)), [1], blinding, bits)
        with pytest.raises(BlindingRefused):
            PRIVATE.opens_blinded(1, 1, blinding, bits)


def test_draw_blinding__a_tiny_range__reaches_every_number_and_no_other() -> None:
    tiny = PrivateKey(11, 13).public_key
    bits = 4  # ⌊143/16⌋ − 1 = 7
    assert {draw_blinding(tiny, bits) for _ in range(400)} == set(range(1, 7))
    with pytest.raises(BlindingRefused):
        draw_blinding(tiny, 6)


def test_blinded_product__same_input_twice__gives_other_bytes() -> None:
    blinding = draw_blinding(KEY, 32)
    first, second = (blinded_product(KEY, encrypted((3, 4)), [5, 6], blinding, 32) for _ in range(2))
    assert first != second
    assert PRIVATE.decrypt(first) == PRIVATE.decrypt(second)


def test_opens_blinded__only_the_true_opening__is_accepted() -> None:
    blinding = draw_blinding(KEY, 32)
    ciphertext = blinded_product(KEY, encrypted((3, 4)), [5, -6], blinding, 32)
    assert PRIVATE.opens_blinded(ciphertext, -9, blinding, 32)
    assert not PRIVATE.opens_blinded(ciphertext, -8, blinding, 32)
    assert not PRIVATE.opens_blinded(ciphertext, -9, draw_blinding(KEY, 32), 32)
    assert not PRIVATE.opens_blinded(ciphertext, -9 + (1 << 32), blinding, 32)


@pytest.mark.parametrize("ciphertext", [0, N, N * N, N * N + 1, PRIVATE.p, -1], ids=["zero", "n", "n²", "beyond", "p", "negative"])
def test_decrypt_blinded__what_is_no_ciphertext__is_refused_before_the_key_is_used(ciphertext: int) -> None:
    with pytest.raises(CiphertextRefused):
        PRIVATE.decrypt_blinded(ciphertext, 32)
    with pytest.raises(CiphertextRefused):
        PRIVATE.opens_blinded(ciphertext, 1, 1, 32)
    with pytest.raises(CiphertextRefused):
        blinded_product(KEY, [ciphertext], [1], 1, 32)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, N - 1))
def test_decrypt_blinded__any_plaintext_whatever__is_a_number_of_t_bits(plaintext: int) -> None:
    """A hostile query is answered like any other: what is decoded is its low bits, centred."""
    r = secrets.randbelow(N - 2) + 1
    ciphertext = (1 + plaintext * N) * pow(r, N, N * N) % (N * N)
    assert -(2**31) <= PRIVATE.decrypt_blinded(ciphertext, 32) < 2**31
    assert (PRIVATE.decrypt_blinded(ciphertext, 32) - plaintext) % 2**32 == 0
