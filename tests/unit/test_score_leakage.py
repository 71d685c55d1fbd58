"""What a lender with crafted weights can read out of score queries, measured on the code that makes the queries (PROTOCOL §10).

The attack: weights w_j = B^j under the lender's own key, so that the scalar product writes the features side by side into one plaintext.
"""

from __future__ import annotations

import math
import secrets
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import pytest

from hessian.paillier.blinding import blinded_product, draw_blinding
from hessian.paillier.ciphertext import affine_map
from hessian.paillier.decryption import PrivateKey, generate_private_key
from hessian.paillier.fixed_point import centre

D, T = 42, 32
BASE_BITS = 12
BASE, LARGEST = 1 << BASE_BITS, (1 << (BASE_BITS - 1)) - 1
PRIVATE = generate_private_key(512, minimum_bits=512)  # 42 digits of 12 bits fit: the attack could not wish for more
KEY = PRIVATE.public_key


@cache
def crafted(first: int = 0) -> tuple[int, ...]:
    """B^(j − first) for the features from `first` on, nothing for those before."""
    return tuple(PRIVATE.encrypt([0 if j < first else BASE ** (j - first) for j in range(D)]))


def applicant() -> list[int]:
    return [secrets.randbelow(2 * LARGEST + 1) - LARGEST for _ in range(D)]


def digits(plaintext: int, count: int) -> list[int]:
    """The balanced base-B digits: what the lender reads the features from."""
    found = []
    for _ in range(count):
        digit = (plaintext + BASE // 2) % BASE - BASE // 2
        found.append(digit)
        plaintext = (plaintext - digit) // BASE
    return found


def without_blinding(features: Sequence[int], weights: Sequence[int]) -> int:
    """The same query without R·2^t: re-randomised, and nothing else."""
    return affine_map(KEY, weights, [features], [0])[0]


def with_blinding(features: Sequence[int], weights: Sequence[int]) -> int:
    return blinded_product(KEY, weights, features, draw_blinding(KEY, T), T)


def test_crafted_weights__without_the_blinding_term__read_every_feature() -> None:
    for _ in range(5):
        features = applicant()
        assert digits(centre(PRIVATE.decrypt(without_blinding(features, crafted())), KEY.n), D) == features


def test_crafted_weights__with_the_blinding_term__read_t_bits_and_beyond_them_nothing() -> None:
    whole = T // BASE_BITS  # features that lie in the low t bits with all of theirs
    read = [0] * D
    for _ in range(60):
        features = applicant()
        plaintext = PRIVATE.decrypt(with_blinding(features, crafted()))
        read = [count + (a == b) for count, a, b in zip(read, digits(plaintext, D), features, strict=True)]
    assert read[:whole] == [60] * whole
    assert max(read[whole + 1 :]) <= 3  # a guess is right in one of 4 095 cases; four of 60 at one of 39 places: below 10⁻⁷


def test_decrypt_blinded__crafted_weights__the_honest_decoding_keeps_no_more_than_t_bits() -> None:
    features = applicant()
    score = PRIVATE.decrypt_blinded(with_blinding(features, crafted()), T)
    assert score % (1 << T) == sum(x * BASE**j for j, x in enumerate(features)) % (1 << T)
    assert -(1 << (T - 1)) <= score < 1 << (T - 1)


def test_crafted_weights__a_second_query_of_the_same_features__reads_further() -> None:
    """Queries add up: why the borrower's node sends one per feature set, and a retry sends the same bytes."""
    features, whole = applicant(), T // BASE_BITS
    first = digits(PRIVATE.decrypt(with_blinding(features, crafted())), whole)
    second = digits(PRIVATE.decrypt(with_blinding(features, crafted(whole))), whole)
    assert first + second == features[: 2 * whole]
    repeated = with_blinding(features, crafted())
    assert PRIVATE.decrypt(repeated) == PRIVATE.decrypt(repeated)


@pytest.mark.parametrize("bits", [3, 4])
def test_leakage__enumerated_over_a_tiny_key__is_at_most_t_plus_one_bits(bits: int) -> None:
    """Every query there can be, through the code that makes queries: all 289 feature sets of two features, all R.

    The min-entropy leakage (Smith, FoSSaCS 2009) of a channel is log₂ Σ_y max_x P(y | x): by how much the best guess improves, for the
    worst prior. Shannon's mutual information never exceeds it.
    """
    tiny = PrivateKey(17, 19)
    key, values = tiny.public_key, range(-8, 9)
    weights = tiny.encrypt([1, 17])  # B = 17: without blinding the two features are two digits
    blindings = range(1, (key.n >> bits) - 1)
    seen: defaultdict[int, dict[tuple[int, int], int]] = defaultdict(dict)
    for x in ((a, b) for a in values for b in values):
        for blinding in blindings:
            y = tiny.decrypt(blinded_product(key, weights, x, blinding, bits))
            seen[y][x] = seen[y].get(x, 0) + 1
    likely = sum(max(by_features.values()) for by_features in seen.values()) / len(blindings)
    assert bits - 1 < math.log2(likely) <= bits + 1 < math.log2(len(values) ** 2)
    shannon = math.log2(len(values) ** 2) + sum(
        count / (len(values) ** 2 * len(blindings)) * math.log2(count / sum(by_features.values()))
        for by_features in seen.values()
        for count in by_features.values()
    )
    assert shannon <= math.log2(likely)


def test_leakage__the_same_key_without_blinding__is_every_feature() -> None:
    tiny = PrivateKey(17, 19)
    weights = tiny.encrypt([1, 17])
    opened = {tiny.decrypt(affine_map(tiny.public_key, weights, [[a, b]], [0])[0]): (a, b) for a in range(-8, 9) for b in range(-8, 9)}
    assert len(opened) == 17**2
