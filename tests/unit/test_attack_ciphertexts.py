"""Attacks that only a holder of the private key, or a sender of bad ciphertexts, can try (PROTOCOL §2)."""

from __future__ import annotations

from math import gcd

import gmpy2
import pytest
from attack_scene import tell
from gmpy2 import mpz
from small_model import Rows, manifest, private_key, specification

from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import Timestamp
from hessian.learning.affine import gradient_map
from hessian.paillier.ciphertext import CiphertextRefused, affine_map
from hessian.paillier.multiexp import simultaneous_powers
from hessian.paillier.packing import pack_columns
from hessian.testing import valid_terms
from trainer.statistics import statistics_of

CANDIDATES = [Rows(seed, 2) for seed in range(64)]
TRUTH = 37
MASK = 123_456_789  # of the plaintext; it does not touch the randomness


@pytest.fixture(scope="module")
def model() -> ModelManifest:
    return manifest(valid_terms(Timestamp(0), cohort_size=3))


def multipliers(model: ModelManifest, rows: Rows) -> list[list[int]]:
    """What an owner with these rows raises the weights to."""
    own = gradient_map(statistics_of([rows.csv()], specification()), 10, 16, model.bounds)
    return pack_columns(own.matrix, model.layout)


def randomness(model: ModelManifest, ciphertext: int) -> mpz:
    """rⁿ mod n², which the private key lays bare: the ciphertext without its plaintext."""
    n, plain = mpz(model.public_key.n), private_key().decrypt(ciphertext)
    return ciphertext * gmpy2.invert(1 + plain * n, n * n) % (n * n)


def test_guess_of_the_rows__offline__is_confirmed_without_a_randomiser_only(model: ModelManifest) -> None:
    key, n = model.public_key, mpz(model.public_key.n)
    roots = [mpz(3 + 2 * place) for place in range(model.dimension)]  # the lender picks the randomness of its weights, and remembers it
    weights = [int((1 + place * n) * gmpy2.powmod(root, n, n * n) % (n * n)) for place, root in enumerate(roots)]
    own = multipliers(model, CANDIDATES[TRUTH])
    bare = [int(power * (1 + MASK * n) % (n * n)) for power in simultaneous_powers(key.n, weights, own)]
    sent = affine_map(key, weights, own, [MASK] * len(own))

    def confirmed(answer: list[int]) -> list[int]:
        seen = [randomness(model, ciphertext) for ciphertext in answer]
        bases = [int(gmpy2.powmod(root, n, n * n)) for root in roots]
        return [place for place, guess in enumerate(CANDIDATES) if simultaneous_powers(key.n, bases, multipliers(model, guess)) == seen]

    tell("guesses confirmed of 64, without a randomiser", len(confirmed(bare)))
    tell("guesses confirmed of 64, with", len(confirmed(sent)))
    assert confirmed(bare) == [TRUTH]
    assert confirmed(sent) == []


@pytest.mark.parametrize("power", [0, 1, 2])
def test_key__from_the_answer_to_a_bad_ciphertext__is_found_without_the_check_only(power: int) -> None:
    """0, n and n² decrypt to (p + q)⁻¹ modulo n by the bare formula. The lender's own answer to a stranger may be that number."""
    key, n = private_key(), private_key().public_key.n
    bad = [0, n, n * n][power]
    halves = key._half_p.open(bad), key._half_q.open(bad)
    raw = int(halves[0] + key.p * ((halves[1] - halves[0]) * gmpy2.invert(key.p, key.q) % key.q))
    total = int(gmpy2.invert(raw, n))
    root = gmpy2.isqrt(total * total - 4 * n)
    assert {int(total + root) // 2, int(total - root) // 2} == {key.p, key.q}

    with pytest.raises(CiphertextRefused):
        key.decrypt(bad)


@pytest.mark.parametrize("factor", ["p", "q"])
def test_key__a_multiple_of_a_prime__is_refused_before_anything_secret_is_computed(factor: str) -> None:
    key = private_key()
    bad = 12_345 * getattr(key, factor)
    assert gcd(bad, key.public_key.n) > 1
    with pytest.raises(CiphertextRefused):
        key.decrypt(bad)
