"""Opening an aggregate and taking the step: equal to a plain replay, and unmoved by content that is no honest gradient."""

from __future__ import annotations

import secrets

import pytest
from bare_member import masked_gradient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_model import Rows, encrypted_weights, manifest, private_key

from hessian.artifacts.manifest import ModelManifest
from hessian.cohorts.masks import MaskingKeyPair, fresh_seed, masking_key_pair, total_masks
from hessian.identifiers import ErrorUnits, Timestamp
from hessian.learning.affine import descend, gradient_map, initial_weights
from hessian.learning.features import IntMatrix
from hessian.learning.metrics import validation_error
from hessian.learning.rows import read_batches, text_lines
from hessian.learning.statistics import SufficientStatistics, accumulate
from hessian.paillier.ciphertext import add
from hessian.testing import valid_terms
from lender_api.rounds.evaluation import Step, evaluate

CONTEXT = b"c" * 32
MANIFEST = manifest(valid_terms(Timestamp(1), cohort_size=3))


def matrix(seed: int, count: int) -> tuple[IntMatrix, IntMatrix]:
    (block,) = read_batches(text_lines([Rows(seed, count).csv()]), MANIFEST.specification)
    return block


class Cohort:
    """Members who do all that honest members do, without a chain."""

    def __init__(self, sizes: list[int], weights: list[int]) -> None:
        self.weights, self.total = weights, sum(sizes)
        self.keys: list[MaskingKeyPair] = [masking_key_pair() for _ in sizes]
        self.seeds = [fresh_seed() for _ in sizes]
        self.statistics: list[SufficientStatistics] = [accumulate([matrix(i, size)], MANIFEST.dimension) for i, size in enumerate(sizes)]

    def vectors(self, of: ModelManifest = MANIFEST) -> list[list[int]]:
        encrypted = encrypted_weights(of, self.weights).check_against(of)
        public, n = [pair.public for pair in self.keys], of.public_key.n
        masks = [
            total_masks(pair.private, public, index, seed, CONTEXT, of.gradient_ciphertexts, n)
            for index, (pair, seed) in enumerate(zip(self.keys, self.seeds, strict=True))
        ]
        return [
            masked_gradient(of, statistics, self.total, mask, encrypted) for statistics, mask in zip(self.statistics, masks, strict=True)
        ]

    def plain_gradient(self) -> list[int]:
        bits = MANIFEST.specification.feature_bits
        parts = [gradient_map(part, self.total, bits, MANIFEST.bounds).at(self.weights) for part in self.statistics]
        return [sum(entries) for entries in zip(*parts, strict=True)]


ROWS = matrix(99, 60)


def before(weights: list[int]) -> Step:
    return Step(tuple(weights), validation_error(weights, *ROWS, score_bits=MANIFEST.score_bits))


def opened(cohort: Cohort, vectors: list[list[int]], seeds: list[bytes] | None = None, start: Step | None = None) -> Step:
    aggregate = add(MANIFEST.public_key, vectors)
    return evaluate(MANIFEST, private_key(), aggregate, seeds or cohort.seeds, CONTEXT, ROWS, start or before(cohort.weights))


WEIGHT = st.integers(-MANIFEST.bounds.weight_limit, MANIFEST.bounds.weight_limit)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    weights=st.lists(WEIGHT, min_size=MANIFEST.dimension, max_size=MANIFEST.dimension),
)
def test_evaluate__honest_members_at_any_weights__equals_the_plain_replay(sizes: list[int], weights: list[int]) -> None:
    cohort = Cohort(sizes, weights)
    generous = Step(tuple(weights), ErrorUnits(2**63))  # whatever the step brings is taken
    step = opened(cohort, cohort.vectors(), start=generous)
    assert list(step.weights) == descend(weights, cohort.plain_gradient(), MANIFEST.step, MANIFEST.bounds)
    assert step.error == validation_error(step.weights, *ROWS, score_bits=MANIFEST.score_bits)


@pytest.fixture
def cohort() -> Cohort:
    return Cohort([30, 20, 10], initial_weights(1, 4, MANIFEST.dimension, MANIFEST.bounds))


def test_evaluate__one_seed_is_another__moves_nothing_and_says_why(cohort: Cohort) -> None:
    start = before(cohort.weights)
    step = opened(cohort, cohort.vectors(), seeds=[cohort.seeds[0], fresh_seed(), cohort.seeds[2]])
    assert (step.weights, step.error) == (start.weights, start.error)
    assert step.reason


def test_evaluate__one_member_sent_noise__moves_nothing(cohort: Cohort) -> None:
    vectors = cohort.vectors()
    vectors[1] = private_key().encrypt([secrets.randbelow(MANIFEST.public_key.n // 2) for _ in vectors[1]])
    step = opened(cohort, vectors)
    assert step.reason
    assert step.weights == tuple(cohort.weights)


def test_evaluate__a_gradient_within_its_bounds_that_ruins_the_model__is_not_taken(cohort: Cohort) -> None:
    vectors = cohort.vectors()
    from hessian.paillier.packing import pack

    push = pack([-MANIFEST.layout.bound // 2, *[0] * (MANIFEST.dimension - 1)], MANIFEST.layout)
    poison = private_key().encrypt(push)
    vectors[0] = add(MANIFEST.public_key, [vectors[0], poison])
    step = opened(cohort, vectors)
    assert step.reason is not None
    assert "worse" in step.reason
    assert step.weights == tuple(cohort.weights)


def test_step__shown__tells_no_weight() -> None:
    assert "12345" not in repr(Step((12345,), ErrorUnits(1)))
