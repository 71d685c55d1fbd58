"""Ciphertexts as fixed-length bytes, questioned on the way in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.paillier.ciphertext import CiphertextRefused
from hessian.paillier.decryption import generate_private_key
from hessian.paillier.wire import ciphertexts_from_bytes, ciphertexts_to_bytes

PRIVATE = generate_private_key(512, minimum_bits=512)
KEY = PRIVATE.public_key


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-1000, 1000), max_size=5))
def test_round_trip__any_ciphertexts__same_numbers_and_one_length(plaintexts: list[int]) -> None:
    ciphertexts = PRIVATE.encrypt(plaintexts)
    items = ciphertexts_to_bytes(KEY, ciphertexts)
    assert {len(item) for item in items} <= {KEY.ciphertext_bytes}
    assert ciphertexts_from_bytes(KEY, items) == ciphertexts


def test_to_bytes__small_ciphertext__is_padded_to_the_full_length() -> None:
    assert ciphertexts_to_bytes(KEY, [1]) == [bytes(KEY.ciphertext_bytes - 1) + b"\1"]


@pytest.mark.parametrize("number", [0, KEY.n, KEY.n_squared, KEY.n_squared + 1, 3 * PRIVATE.p], ids=["0", "n", "n²", "n² + 1", "3p"])
def test_from_bytes__number_that_is_no_ciphertext__is_refused(number: int) -> None:
    with pytest.raises(CiphertextRefused):
        ciphertexts_from_bytes(KEY, [number.to_bytes(KEY.ciphertext_bytes, "big")])


@pytest.mark.parametrize(
    "item",
    [b"", b"\1", bytes(KEY.ciphertext_bytes - 2) + b"\1", bytes(KEY.ciphertext_bytes) + b"\1", bytes(1_000_000), "1" * 128, 7, None],
    ids=["empty", "short", "one less", "one more", "huge", "text", "number", "none"],
)
def test_from_bytes__wrong_type_or_length__is_refused(item: bytes) -> None:
    with pytest.raises(CiphertextRefused):
        ciphertexts_from_bytes(KEY, [item])


@pytest.mark.parametrize("number", [0, -1, KEY.n, KEY.n_squared], ids=["0", "-1", "n", "n²"])
def test_to_bytes__number_that_is_no_ciphertext__is_refused(number: int) -> None:
    with pytest.raises(CiphertextRefused):
        ciphertexts_to_bytes(KEY, [number])
