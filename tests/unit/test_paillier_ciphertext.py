"""Encrypted arithmetic equals plain arithmetic; bad ciphertexts go nowhere; nothing leaves twice with the same randomness."""

from __future__ import annotations

import gmpy2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.paillier.ciphertext import (
    CiphertextRefused,
    PlaintextOverflow,
    RandomiserReused,
    add,
    affine_map,
    check_ciphertexts,
    encrypt,
    randomiser,
)
from hessian.paillier.decryption import generate_private_key
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import AggregateUndecodable, pack, pack_columns, slot_layout, unpack

PRIVATE = generate_private_key(512, minimum_bits=512)
KEY = PRIVATE.public_key
N, N2 = KEY.n, KEY.n_squared
GOOD = encrypt(KEY, 7, randomiser(KEY))

BAD_CIPHERTEXTS = {
    "zero": 0,
    "n": N,
    "n squared": N2,
    "above n squared": N2 + GOOD,
    "multiple of n": 5 * N,
    "multiple of p": 3 * PRIVATE.p,
    "multiple of q squared": PRIVATE.q**2,
    "negative": -GOOD,
    "a million bits": 1 << 1_000_000 | 1,
    "bool": True,
    "float": 3.0,
    "string": str(GOOD),
    "none": None,
    "mpz": gmpy2.mpz(GOOD),
}
bad_ciphertexts = pytest.mark.parametrize("bad", BAD_CIPHERTEXTS.values(), ids=BAD_CIPHERTEXTS.keys())


def opened(ciphertexts: list[int]) -> list[int]:
    return [centre(PRIVATE.decrypt(ciphertext), N) for ciphertext in ciphertexts]


@bad_ciphertexts
def test_check__bad_ciphertext_among_good_ones__names_it(bad: int) -> None:
    with pytest.raises(CiphertextRefused, match="ciphertext 1 "):
        check_ciphertexts(KEY, [GOOD, bad, GOOD])


@bad_ciphertexts
def test_every_entrance__bad_ciphertext__is_refused(bad: int) -> None:
    """A raw decryption of 0, n or n² would return p + q: no door opens for one, the lender's least of all."""
    with pytest.raises(CiphertextRefused):
        PRIVATE.decrypt(bad)
    with pytest.raises(CiphertextRefused):
        add(KEY, [[GOOD], [bad]])
    with pytest.raises(CiphertextRefused):
        affine_map(KEY, [GOOD, bad], [[1, 1]], [0])
    with pytest.raises(CiphertextRefused):
        encrypt(KEY, 1, bad)


def test_check__good_ciphertexts__passes() -> None:
    check_ciphertexts(KEY, [GOOD, 1, N2 - 1])
    check_ciphertexts(KEY, [])


@settings(deadline=None)
@given(st.one_of(st.integers(-(N // 2), N // 2), st.sampled_from([N // 2, -(N // 2), 0])))
def test_encrypt__any_plaintext_in_range__decrypts_to_it(plaintext: int) -> None:
    assert opened([encrypt(KEY, plaintext, randomiser(KEY))]) == [plaintext]


@pytest.mark.parametrize("plaintext", [N // 2 + 1, -(N // 2) - 1, N, -N, 1 << 2000], ids=["above", "below", "n", "minus n", "huge"])
def test_encrypt__plaintext_out_of_range__is_an_error(plaintext: int) -> None:
    with pytest.raises(PlaintextOverflow):
        encrypt(KEY, plaintext, randomiser(KEY))
    with pytest.raises(PlaintextOverflow):
        PRIVATE.encrypt([0, plaintext])
    with pytest.raises(PlaintextOverflow):
        affine_map(KEY, [GOOD], [[1]], [plaintext])
    with pytest.raises(PlaintextOverflow):
        affine_map(KEY, [GOOD], [[plaintext]], [1])


@pytest.mark.parametrize("plaintext", [1.0, True, "1"])
def test_encrypt__not_an_int__is_an_error(plaintext: int) -> None:
    with pytest.raises(TypeError):
        encrypt(KEY, plaintext, randomiser(KEY))


def test_randomiser__is_an_nth_residue_of_full_width() -> None:
    drawn = {randomiser(KEY) for _ in range(20)}
    assert len(drawn) == 20
    assert [PRIVATE.decrypt(one) for one in drawn] == [0] * 20
    assert max(drawn).bit_length() > N2.bit_length() - 20


@settings(deadline=None, max_examples=30)
@given(st.data(), st.integers(1, 6), st.integers(1, 3))
def test_affine_map__random_integers__equals_the_plain_computation(data: st.DataObject, weights: int, outputs: int) -> None:
    plain = data.draw(st.lists(st.integers(-(1 << 100), 1 << 100), min_size=weights, max_size=weights))
    multiplier = st.integers(-(1 << 300), 1 << 300)
    rows = data.draw(st.lists(st.lists(multiplier, min_size=weights, max_size=weights), min_size=outputs, max_size=outputs))
    offsets = data.draw(st.lists(st.integers(-(1 << 400), 1 << 400), min_size=outputs, max_size=outputs))
    expected = [sum(p * w for p, w in zip(row, plain, strict=True)) + offset for row, offset in zip(rows, offsets, strict=True)]
    assert opened(affine_map(KEY, PRIVATE.encrypt(plain), rows, offsets)) == expected


def test_affine_map__same_inputs_twice__gives_unlinkable_ciphertexts_of_the_same_plaintext() -> None:
    weights = PRIVATE.encrypt([3, -4])
    first, second = (affine_map(KEY, weights, [[5, 6], [0, 0]], [7, 0]) for _ in range(2))
    assert not set(first) & set(second)
    assert opened(first) == opened(second) == [-2, 0]
    deterministic = pow(weights[0], 5, N2) * pow(weights[1], 6, N2) * (1 + 7 * N) % N2
    assert first[0] != deterministic


def test_affine_map__randomisers_made_ahead__are_the_ones_used() -> None:
    weights, ahead = PRIVATE.encrypt([3]), [randomiser(KEY)]
    assert affine_map(KEY, weights, [[2]], [1], ahead) == [weights[0] ** 2 * (1 + N) * ahead[0] % N2]


def test_affine_map__randomisers_too_few_or_repeated__is_an_error() -> None:
    weights, ahead = PRIVATE.encrypt([3]), randomiser(KEY)
    for randomisers in ([], [ahead], [ahead, ahead]):
        with pytest.raises(RandomiserReused):
            affine_map(KEY, weights, [[2], [3]], [1, 1], randomisers)


@pytest.mark.parametrize(("multipliers", "offsets"), [([[1]], [0]), ([[1, 2]], []), ([[1, 2], [3]], [0, 0])])
def test_affine_map__shapes_that_do_not_fit__is_an_error(multipliers: list[list[int]], offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="per weight"):
        affine_map(KEY, PRIVATE.encrypt([1, 2]), multipliers, offsets)


def test_add__members__is_the_sum_element_by_element() -> None:
    members = [[1, -2, 3], [10, 20, -30], [-100, 0, 200]]
    assert opened(add(KEY, [PRIVATE.encrypt(member) for member in members])) == [-89, 18, 173]


@pytest.mark.parametrize("lengths", [[], [1, 2], [2, 0]])
def test_add__vectors_that_do_not_line_up__is_refused(lengths: list[int]) -> None:
    with pytest.raises(CiphertextRefused):
        add(KEY, [[GOOD] * length for length in lengths])


@settings(deadline=None, max_examples=25)
@given(st.data(), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_gradient_step__weights_and_rows_at_their_bounds__decodes_to_the_exact_sum(
    data: st.DataObject, dimension: int, members: int, extreme: bool
) -> None:
    """PROTOCOL §3: no honest input leaves its slot, the edge itself included."""
    row_sum, largest_weight, largest_offset = 12, 1 << 24, 1 << 30
    bound = members * (row_sum * largest_weight + largest_offset)
    layout = slot_layout(KEY.bits, bound=bound)
    if extreme:
        sign = data.draw(st.sampled_from([-1, 1]))
        weights = [sign * largest_weight] * dimension
        matrices = [[[row_sum] + [0] * (dimension - 1)] * dimension] * members
        offsets = [[sign * largest_offset] * dimension] * members
    else:
        entry = st.integers(-(row_sum // dimension), row_sum // dimension)
        weights = data.draw(st.lists(st.integers(-largest_weight, largest_weight), min_size=dimension, max_size=dimension))
        row = st.lists(entry, min_size=dimension, max_size=dimension)
        matrices = data.draw(st.lists(st.lists(row, min_size=dimension, max_size=dimension), min_size=members, max_size=members))
        offset = st.lists(st.integers(-largest_offset, largest_offset), min_size=dimension, max_size=dimension)
        offsets = data.draw(st.lists(offset, min_size=members, max_size=members))
    encrypted = PRIVATE.encrypt(weights)
    masked = [
        affine_map(KEY, encrypted, pack_columns(matrix, layout), pack(b, layout)) for matrix, b in zip(matrices, offsets, strict=True)
    ]
    expected = [
        sum(sum(a * w for a, w in zip(m[r], weights, strict=True)) + b[r] for m, b in zip(matrices, offsets, strict=True))
        for r in range(dimension)
    ]
    assert unpack(opened(add(KEY, masked)), layout, dimension) == expected
    if extreme:
        assert {abs(value) for value in expected} == {bound}


def test_gradient_step__weights_one_step_too_large__is_undecodable_and_never_a_number() -> None:
    layout = slot_layout(KEY.bits, bound=12 << 24)
    encrypted = PRIVATE.encrypt([(1 << 24) + 1])
    result = affine_map(KEY, encrypted, pack_columns([[12]], layout), [0])
    with pytest.raises(AggregateUndecodable):
        unpack(opened(result), layout, 1)
