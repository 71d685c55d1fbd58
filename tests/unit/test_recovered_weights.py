"""Weights that come back from IPFS: believed only with their place in the line of versions, their bound and their error as anchored."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import Rows, manifest, private_key

from hessian.artifacts.weights import EncryptedWeights
from hessian.identifiers import Digest, ErrorUnits, Timestamp, digest_of
from hessian.learning.metrics import validation_error
from hessian.learning.rows import read_batches, text_lines
from hessian.paillier.decryption import generate_private_key
from hessian.testing import valid_terms
from lender_api.rounds.recovery import Judge, WeightsDisagree

MANIFEST = manifest(valid_terms(Timestamp(1), cohort_size=3))
(ROWS,) = read_batches(text_lines([Rows(99, 60).csv()]), MANIFEST.specification)
JUDGE = Judge(MANIFEST, private_key(), ROWS)
PARENT = digest_of(b"version 3")
LIMIT = MANIFEST.bounds.weight_limit
WEIGHTS = [LIMIT, -LIMIT, 0, 1, -1]


def error_of(weights: list[int]) -> ErrorUnits:
    return validation_error(weights, *ROWS, score_bits=MANIFEST.score_bits, objective=MANIFEST.objective)


def sealed(weights: list[int], version: int = 4, parent: Digest = PARENT) -> bytes:
    return EncryptedWeights.seal(MANIFEST, version, parent, private_key().encrypt(weights)).to_bytes()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(-LIMIT, LIMIT), min_size=MANIFEST.dimension, max_size=MANIFEST.dimension))
def test_open__what_this_lender_anchored__gives_the_weights_back(weights: list[int]) -> None:
    assert JUDGE.open(sealed(weights), 4, PARENT, error_of(weights)) == weights


def test_open__another_error_on_chain__stops() -> None:
    error = error_of(WEIGHTS)
    with pytest.raises(WeightsDisagree, match=f"give an error of {error}, the chain says {error + 1}$"):
        JUDGE.open(sealed(WEIGHTS), 4, PARENT, ErrorUnits(error + 1))


@pytest.mark.parametrize(("version", "parent"), [(5, PARENT), (4, digest_of(b"another"))])
def test_open__not_the_next_version__stops(version: int, parent: Digest) -> None:
    with pytest.raises(WeightsDisagree, match="do not follow the version before them"):
        JUDGE.open(sealed(WEIGHTS, version, parent), 4, PARENT, error_of(WEIGHTS))


def test_open__weight_beyond_its_bound__stops() -> None:
    beyond = [LIMIT + 1, 0, 0, 0, 0]
    with pytest.raises(WeightsDisagree, match="beyond the manifest's bound"):
        JUDGE.open(sealed(beyond), 4, PARENT, error_of(beyond))


def test_open__bytes_that_are_no_weights__stops() -> None:
    short = EncryptedWeights(4, PARENT, EncryptedWeights.from_bytes(sealed(WEIGHTS)).ciphertexts[1:]).to_bytes()
    for content in (b"", sealed(WEIGHTS)[:-1], short):
        with pytest.raises(WeightsDisagree, match="refused"):
            JUDGE.open(content, 4, PARENT, error_of(WEIGHTS))


def test_open__under_another_key__stops() -> None:
    other = generate_private_key(MANIFEST.public_key.n.bit_length(), minimum_bits=512)
    smaller = [min(ciphertext, MANIFEST.public_key.n_squared - 1) for ciphertext in other.encrypt(WEIGHTS)]
    content = EncryptedWeights.seal(MANIFEST, 4, PARENT, smaller).to_bytes()
    with pytest.raises(WeightsDisagree, match="bound"):
        JUDGE.open(content, 4, PARENT, error_of(WEIGHTS))
