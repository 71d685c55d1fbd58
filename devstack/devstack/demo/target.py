"""How targets are chosen, and what plaintext training reaches on the same rows.

How TARGET_ERROR was chosen: `python -m devstack.demo.target [another seed …]` prints validation error and test AUC round by round.

The path is the demo's own in plaintext integers: specification, step and initial weights from the lender's validation rows, five owners'
gradient maps summed, one step a round. The target is read off the *validation* column: the error after TARGET_ROUND rounds, rounded up to
the next millionth. The test columns are for the reader; nothing is chosen by them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression

from devstack.demo import lending_club
from devstack.demo.case import Shards, Table
from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import ErrorUnits
from hessian.learning.affine import bounds_for, descend, descend_float64, gradient_map, initial_weights, settle, step_size
from hessian.learning.descent import Answered, minimiser, search
from hessian.learning.features import FloatMatrix, IntMatrix
from hessian.learning.fitting import Outline, fit
from hessian.learning.local_steps import member_map
from hessian.learning.metrics import auc, auc_standard_error, scores, validation_error
from hessian.learning.objective import STEP_BITS
from hessian.learning.plain import BILLION
from hessian.learning.statistics import accumulate

ROUNDS = 8
TARGET_ROUND = 3
FOLDS = 5
SHARE = 0.95
_GRAIN = 1_000  # billionths: the target is a round number just above the path's error


@dataclass(frozen=True)
class Replay:
    """One split's path; entry 0 of each list is before the first round. AUCs are on the test rows."""

    errors: tuple[ErrorUnits, ...]
    auc_integers: tuple[float, ...]
    auc_float64: tuple[float, ...]
    auc_logistic: float
    auc_least_squares: float
    standard_error: float

    @property
    def target(self) -> ErrorUnits:
        """The validation error after TARGET_ROUND rounds, rounded up."""
        return ErrorUnits(-(-self.errors[TARGET_ROUND] // _GRAIN) * _GRAIN)


def replay(shards: Shards, rounds: int = ROUNDS) -> Replay:
    """Train in plaintext integers, exactly as the encrypted run does, and beside it in float64."""
    specification = fit(Outline.from_plain(lending_club.OUTLINE), shards.validation)
    bounds, f = bounds_for(specification), specification.feature_bits
    x, y = specification.matrix(shards.validation)
    x_test, y_test = specification.matrix(shards.test)
    owners = [specification.matrix(owner) for owner in shards.owners]
    total_rows = sum(len(labels) for _, labels in owners)
    maps = [gradient_map(accumulate([owner], specification.dimension), total_rows, f, bounds) for owner in owners]
    step = step_size(accumulate([(x, y)], specification.dimension), f)
    path = [initial_weights(int(y.sum()), len(y), specification.dimension, bounds)]
    for _ in range(rounds):
        gradient = [sum(parts) for parts in zip(*(member.at(path[-1]) for member in maps), strict=True)]
        path.append(descend(path[-1], gradient, step, bounds))
    train, labels = np.concatenate([part for part, _ in owners]), np.concatenate([part for _, part in owners])
    first = np.array(path[0]) / 2.0**bounds.weight_bits
    float_path = [first, *descend_float64(real(train, f), labels.astype(np.float64), first, step / 2.0**STEP_BITS, rounds)]
    logistic, least_squares = (auc(found, y_test) for found in peers(train, labels, x_test))
    return Replay(
        errors=tuple(validation_error(weights, x, y, score_bits=bounds.weight_bits + f) for weights in path),
        auc_integers=tuple(auc(scores(weights, x_test), y_test) for weights in path),
        auc_float64=tuple(auc(real(x_test, f) @ weights, y_test) for weights in float_path),
        auc_logistic=logistic,
        auc_least_squares=least_squares,
        standard_error=auc_standard_error(logistic, y_test),
    )


def derived(outline: Outline, validation: Table) -> ErrorUnits | None:
    """A target for rows nobody has trained on before, from the validation rows alone; None when their columns tell nothing.

    What least squares can reach on other rows like these lies between its error on rows it saw (too good) and on rows it did not see, in
    FOLDS parts (too bad: it saw fewer than the owners hold). The target is SHARE of the way from the start to the middle of the two.
    """
    specification = fit(outline, validation)
    x, y = specification.matrix(validation)
    features, labels = real(x, specification.feature_bits), y.astype(np.float64)
    start = float(labels.mean() * (1 - labels.mean()))
    fold = np.arange(len(labels)) % FOLDS
    apart = [(fold != part, fold == part) for part in range(FOLDS)]
    unseen = sum(_squares(features[seen], labels[seen], features[other], labels[other]) for seen, other in apart)
    reach = (unseen + _squares(features, labels, features, labels)) / (2 * len(labels))
    if unseen / len(labels) >= start:
        return None
    return ErrorUnits(-(-int(BILLION * (start - SHARE * (start - reach))) // _GRAIN) * _GRAIN)


def _squares(features: FloatMatrix, labels: FloatMatrix, others: FloatMatrix, other_labels: FloatMatrix) -> float:
    """The summed squared error on other rows of least squares fitted on these."""
    weights = np.linalg.lstsq(features, labels)[0]
    return float(((np.clip(others @ weights, 0, 1) - other_labels) ** 2).sum())


def replayed(manifest: ModelManifest, shards: Shards, rounds: int) -> FloatMatrix:
    """The weights after so many rounds without encryption: plain steps in float64 on all rows in one place, everything else in the very
    integers, because it chooses between steps by their error, or depends on who holds which rows."""
    specification, bounds, objective = manifest.specification, manifest.bounds, manifest.objective
    validation = specification.matrix(shards.validation)
    parts = [specification.matrix(owner) for owner in shards.owners]
    start = initial_weights(int(validation[1].sum()), len(validation[1]), manifest.dimension, bounds, objective)
    unit = 2.0**bounds.weight_bits
    if objective.method == "fixed" and objective.local_steps == 1:
        x, y = np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts])
        step = manifest.step / 2.0**STEP_BITS
        return descend_float64(real(x, specification.feature_bits), y.astype(np.float64), np.array(start) / unit, step, rounds)[-1]
    total = sum(len(labels) for _, labels in parts)
    statistics = [accumulate([part], manifest.dimension) for part in parts]
    maps = [member_map(owner, total, specification.feature_bits, bounds, objective, manifest.step) for owner in statistics]

    def opened() -> list[int]:
        return [sum(entries) for entries in zip(*(member.at(weights) for member in maps), strict=True)]

    def error(tried: Sequence[int]) -> ErrorUnits:
        return validation_error(tried, *validation, score_bits=manifest.score_bits, objective=objective)

    weights, answered = start, list[Answered]()
    for _ in range(rounds):
        if objective.local_steps > 1:
            weights = settle(opened(), bounds)
            continue
        newest: Answered = (weights, opened())
        point: Answered = minimiser(answered, newest, bounds) if objective.method == "conjugate-gradients" else newest
        answered.append(newest)
        weights, _ = search(point[0], point[1], manifest.step, bounds, error)
    return np.array(weights) / unit


def peers(train: IntMatrix, labels: IntMatrix, test: IntMatrix) -> tuple[FloatMatrix, FloatMatrix]:
    """Test scores of scikit-learn's logistic regression and least squares: the same rows in one place, entries at unit variance."""
    spread = train[:, 1:].std(axis=0)
    spread[spread == 0] = 1
    fitted = train[:, 1:] / spread, test[:, 1:] / spread
    logistic = LogisticRegression(max_iter=2_000).fit(fitted[0], labels).decision_function(fitted[1])
    least_squares = LinearRegression().fit(fitted[0], labels).predict(fitted[1])
    return logistic, least_squares


def real(features: IntMatrix, feature_bits: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Quantised entries as float64."""
    return features / 2.0**feature_bits


def main(arguments: Sequence[str]) -> None:
    """Print one table per seed; without arguments the demo's own."""
    table = lending_club.load()
    for seed in map(int, arguments or [str(lending_club.SEED)]):
        path = replay(lending_club.split(table, seed))
        print(f"seed {seed}, test AUC ± {path.standard_error:.4f}:", end=" ")
        print(f"logistic {path.auc_logistic:.4f}, least squares {path.auc_least_squares:.4f}")
        print("round  validation error   AUC integers   AUC float64   − logistic")
        for number, (error, area, reference) in enumerate(zip(path.errors, path.auc_integers, path.auc_float64, strict=True)):
            print(f"{number:5}  {error:16}   {area:12.6f}   {reference:11.6f}   {area - path.auc_logistic:+10.4f}")
        print(f"target after {TARGET_ROUND} rounds: {path.target}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
