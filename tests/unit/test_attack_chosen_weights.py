"""A lender that chooses its weights: what it reads out of one owner without masks, and what is left of that with them (PROTOCOL §4).

Each attack runs twice against the trainer's own step: with the defence left out it succeeds, with it on it fails.
"""

from __future__ import annotations

import numpy as np
import pytest
from attack_scene import Cohort, real_gram, relative_error, solve, tell
from small_model import Rows, manifest, specification

from hessian.artifacts.manifest import ModelManifest
from hessian.cohorts.policy import ModelFacts, OwnerPolicy, judge_model
from hessian.identifiers import Timestamp
from hessian.learning.statistics import pooled
from hessian.testing import valid_terms
from owner_api.datasets.validation import DatasetRefused, validate
from owner_api.settings import DatasetLimits
from trainer.statistics import statistics_of

VICTIM = 1


@pytest.fixture(scope="module")
def model() -> ModelManifest:
    return manifest(valid_terms(Timestamp(0), cohort_size=3))


def cohort(model: ModelManifest, victim: Rows, *, masked: bool) -> Cohort:
    return Cohort(model, tuple(statistics_of([rows.csv()], specification()) for rows in (Rows(1, 60), victim, Rows(3, 45))), masked)


def test_one_row_owner__chosen_weights__gives_its_row_away_without_masks_only(model: ModelManifest) -> None:
    row = np.array([1.0, -1.25, -1.8, -0.5, 0.5])
    errors = {}
    for masked in (False, True):
        scene = cohort(model, Rows(0, 1), masked=masked)
        truth = real_gram(scene.parts[VICTIM])[0]
        gram, _ = solve(lambda weights, scene=scene: scene.alone_at(VICTIM, weights), model)  # type: ignore[misc]
        errors[masked] = float(np.abs(gram[:, 0] * scene.rows - truth).max())
        assert np.abs(truth - row).max() < 1e-4  # the row really is what G's first column holds
    tell("one row: largest error of an entry, without masks", errors[False])
    tell("one row: largest error of an entry, with masks", errors[True])

    assert errors[False] < 1e-3
    assert errors[True] > 1  # every entry this close by chance: below 10^-20


def test_one_row_owner__of_this_node__never_gets_that_far() -> None:
    with pytest.raises(DatasetRefused, match="one row"):
        validate([Rows(0, 1).csv()], label="Class", positive_value="bad", limits=DatasetLimits(), fingerprint_key=bytes(32), keep=len)
    alone = ModelFacts(cohort_size=1, windows=(), certificate_valid=True)
    assert judge_model(OwnerPolicy(), alone)


def test_chosen_weights__one_more_round_than_entries__recover_an_owner_without_masks_only(model: ModelManifest) -> None:
    errors = {}
    for masked in (False, True):
        scene = cohort(model, Rows(2, 500), masked=masked)
        gram, _ = solve(lambda weights, scene=scene: scene.alone_at(VICTIM, weights), model)  # type: ignore[misc]
        errors[masked] = relative_error(gram * scene.rows, real_gram(scene.parts[VICTIM]))
    scene = cohort(model, Rows(2, 500), masked=True)
    total, _ = solve(scene.sum_at, model)
    guess = total * scene.parts[VICTIM].rows  # the best there is from the sum: the owner is like the cohort
    tell("d + 1 weights: relative error of XᵀX, without masks", errors[False])
    tell("d + 1 weights: relative error of XᵀX, with masks", errors[True])
    tell("d + 1 weights: relative error of XᵀX, guessed from the sum", relative_error(guess, real_gram(scene.parts[VICTIM])))

    assert errors[False] < 1e-5
    assert errors[True] > 1  # every entry this close by chance: below 10^-20
    assert relative_error(total * scene.rows, real_gram(pooled(scene.parts))) < 1e-5  # what a cohort does tell: its sum


def test_oversized_weights__two_columns_in_one_round__come_apart_without_masks_only(model: ModelManifest) -> None:
    """The owner cannot see how large an encrypted weight is. Two columns in one answer are still two of what masks leave: the sum."""
    lift = model.bounds.weight_bits + 6
    assert 1 << lift > model.bounds.weight_limit  # beyond W
    d, unit = model.dimension, 2.0**-model.bounds.matrix_bits
    errors = {}
    for masked in (False, True):
        scene = cohort(model, Rows(2, 500), masked=masked)
        still = scene.alone_at(VICTIM, [0] * d)
        both = scene.alone_at(VICTIM, [0, 1, 1 << lift, 0, 0])
        mixed = [after - before for after, before in zip(both, still, strict=True)]
        low = [(value + (1 << lift - 1)) % (1 << lift) - (1 << lift - 1) for value in mixed]
        high = [(value - part) >> lift for value, part in zip(mixed, low, strict=True)]
        found = np.array([[float(entry) for entry in column] for column in (low, high)]).T * unit * scene.rows
        errors[masked] = relative_error(found, real_gram(scene.parts[VICTIM])[:, 1:3])
    tell("over-sized weights: relative error of two columns, without masks", errors[False])
    tell("over-sized weights: relative error of two columns, with masks", errors[True])

    assert errors[False] < 1e-5
    assert errors[True] > 1
