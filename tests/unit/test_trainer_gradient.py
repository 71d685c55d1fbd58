"""The gradient step against plaintext arithmetic: cohorts of one and of three, masks on and taken off again."""

from __future__ import annotations

import base64
import json
from itertools import pairwise

import pytest
from small_model import KEY_BITS, Rows, encrypted_weights, manifest, private_key, specification

from hessian.artifacts.codec import ArtifactRefused
from hessian.artifacts.gradient import MaskedGradient
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.weights import EncryptedWeights
from hessian.cohorts.masks import fresh_seed, masking_key_pair, pair_secret, self_masks
from hessian.identifiers import Timestamp
from hessian.learning.affine import gradient_map
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics, pooled
from hessian.paillier.ciphertext import add
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import unpack
from hessian.testing import valid_terms
from trainer.gradient import Membership, Prepared, gradient_step, prepare, run
from trainer.statistics import statistics_of

CONTEXT = bytes(range(32))
PLAIN_WEIGHTS = [1 << 22, -(1 << 23), 12_345, -999, 1 << 24]


@pytest.fixture(scope="module")
def model() -> ModelManifest:
    return manifest(valid_terms(Timestamp(0), cohort_size=3))


@pytest.fixture(scope="module")
def weights(model: ModelManifest) -> EncryptedWeights:
    return encrypted_weights(model, PLAIN_WEIGHTS)


@pytest.fixture(scope="module")
def statistics() -> list[SufficientStatistics]:
    return [statistics_of([Rows(seed, count).csv()], specification()) for seed, count in ((1, 40), (2, 90), (3, 25))]


def cohort(rows: list[int]) -> tuple[list[Membership], list[bytes]]:
    """Memberships of a whole cohort, and the seeds that open it."""
    pairs, seeds = [masking_key_pair() for _ in rows], [fresh_seed() for _ in rows]
    members = []
    for i, pair in enumerate(pairs):
        secrets = [(1 if j > i else -1, pair_secret(pair.private, other.public, CONTEXT, i, j)) for j, other in enumerate(pairs) if j != i]
        members.append(Membership(i, sum(rows), CONTEXT, tuple(secrets), seeds[i]))
    return members, seeds


def opened(model: ModelManifest, gradients: list[MaskedGradient], seeds: list[bytes]) -> list[int]:
    """What the lender computes: product, decryption, self-masks off, slots out."""
    n = model.public_key.n
    total = add(model.public_key, [gradient.check_against(model, CONTEXT, index) for index, gradient in enumerate(gradients)])
    masks = self_masks(seeds, CONTEXT, len(total), n)
    plain = [centre((private_key().decrypt(c) - mask) % n, n) for c, mask in zip(total, masks, strict=True)]
    return unpack(plain, model.layout, model.dimension)


def expected(model: ModelManifest, parts: list[SufficientStatistics]) -> list[int]:
    maps = [
        gradient_map(part, sum(p.rows for p in parts), model.specification.feature_bits, model.bounds).at(PLAIN_WEIGHTS) for part in parts
    ]
    return [sum(entries) for entries in zip(*maps, strict=True)]


def test_gradient_step__of_a_whole_cohort__opens_to_the_plaintext_sum(
    model: ModelManifest, weights: EncryptedWeights, statistics: list[SufficientStatistics]
) -> None:
    members, seeds = cohort([part.rows for part in statistics])
    gradients = [gradient_step(model, weights, part, member) for part, member in zip(statistics, members, strict=True)]
    assert opened(model, gradients, seeds) == expected(model, statistics)


def test_gradient_step__of_the_cohort__is_the_pooled_gradient_up_to_rounding(
    model: ModelManifest, statistics: list[SufficientStatistics]
) -> None:
    together = expected(model, [pooled(statistics)])
    slack = len(statistics) * (model.dimension * model.bounds.weight_limit + 1)
    assert all(abs(a - b) <= slack for a, b in zip(expected(model, statistics), together, strict=True))


def test_gradient_step__twice_over_the_same_inputs__gives_other_ciphertexts_and_the_same_plaintext(
    model: ModelManifest, weights: EncryptedWeights, statistics: list[SufficientStatistics]
) -> None:
    members, seeds = cohort([part.rows for part in statistics])
    first, second = (
        [gradient_step(model, weights, part, member) for part, member in zip(statistics, members, strict=True)] for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert not set(one.ciphertexts) & set(other.ciphertexts)
    assert opened(model, first, seeds) == opened(model, second, seeds)


def test_gradient_step__alone_decrypted_by_the_lender__tells_nothing_of_the_gradient(
    model: ModelManifest, weights: EncryptedWeights, statistics: list[SufficientStatistics]
) -> None:
    members, _ = cohort([part.rows for part in statistics])
    gradient = gradient_step(model, weights, statistics[0], members[0])
    n = model.public_key.n
    plain = [centre(private_key().decrypt(c), n) for c in gradient.check_against(model, CONTEXT, 0)]
    widest = model.layout.slot_bits * model.dimension
    assert all(value.bit_length() > widest + 32 for value in plain)  # a residue of full width, where the packed gradient alone is short


def test_gradient_step__weights_of_another_manifest__are_refused(model: ModelManifest, statistics: list[SufficientStatistics]) -> None:
    members, _ = cohort([part.rows for part in statistics])
    other = manifest(valid_terms(Timestamp(0), cohort_size=5))
    with pytest.raises(ArtifactRefused):
        gradient_step(model, encrypted_weights(other), statistics[0], members[0])


@pytest.mark.parametrize("bad", [0, "n", "n²"])
def test_gradient_step__a_weight_ciphertext_that_would_betray_a_key__is_refused(
    model: ModelManifest, statistics: list[SufficientStatistics], bad: int | str
) -> None:
    members, _ = cohort([part.rows for part in statistics])
    key = model.public_key
    number = {0: 0, "n": key.n, "n²": key.n_squared}[bad]
    good = encrypted_weights(model)
    spoiled = EncryptedWeights(good.version, good.parent, (number.to_bytes(key.ciphertext_bytes, "big"), *good.ciphertexts[1:]))
    with pytest.raises(ArtifactRefused):
        gradient_step(model, spoiled, statistics[0], members[0])


def test_gradient_step__statistics_beyond_the_bounds__are_refused(
    model: ModelManifest, weights: EncryptedWeights, statistics: list[SufficientStatistics]
) -> None:
    members, _ = cohort([part.rows for part in statistics])
    gram = [list(row) for row in statistics[0].gram]
    gram[1][1] *= 10**6
    with pytest.raises(StatisticsRefused):
        gradient_step(model, weights, SufficientStatistics(statistics[0].rows, tuple(map(tuple, gram)), statistics[0].moment), members[0])


def test_statistics_of__whatever_the_chunks__are_the_same() -> None:
    data = Rows(9, 100).csv()
    whole = statistics_of([data], specification())
    for size in (1, 7, 4096):
        cuts = [*range(0, len(data), size), len(data)]
        assert statistics_of([data[a:b] for a, b in pairwise(cuts)], specification()) == whole
    assert json.loads(json.dumps(whole.to_plain())) == whole.to_plain()


def job_header(model: ModelManifest, weights: EncryptedWeights, part: SufficientStatistics) -> dict[str, object]:
    ticket = {"member_index": 0, "total_rows": part.rows, "context": CONTEXT.hex(), "pair_masks": [], "self_mask": bytes(32).hex()}
    return {
        "manifest": base64.b64encode(model.to_bytes()).decode(),
        "weights": base64.b64encode(weights.to_bytes()).decode(),
        "ticket": {**ticket, "statistics": part.to_plain()},
        "minimum_key_bits": KEY_BITS,
    }


def test_run__what_was_prepared__randomises_a_step_of_that_model_and_no_other(
    model: ModelManifest, weights: EncryptedWeights, statistics: list[SufficientStatistics]
) -> None:
    header = job_header(model, weights, statistics[0])
    prepared = prepare(header)
    assert len(set(prepared.randomisers)) == model.gradient_ciphertexts
    assert run(header, prepared) == run(header, prepared)  # the same randomness, nothing else is drawn
    assert run(header, prepared) != run(header, prepare(header))
    for other in (Prepared(prepared.modulus + 2, prepared.randomisers), Prepared(prepared.modulus, ()), None):
        assert run(header, other) not in (run(header, prepared), run(header, other))
