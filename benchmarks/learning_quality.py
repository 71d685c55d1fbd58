"""How many rounds a cohort needs under each objective, and what local steps cost on unlike owners: real loans, exact integers, no keys.

`python -m benchmarks.learning_quality [--splits 20] [--rounds 20]` replays the encrypted run's own arithmetic on several cuts of the loans
and prints a Markdown table; JSON goes to build/bench/learning_quality.json. "Reached" is the first round whose test AUC is no lower than
0.001 below that of least squares on the pooled train rows; ± is the standard error over the cuts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression

from benchmarks.tables_of_loans import TABLES, Cut, cut, unlike
from hessian.learning.affine import bounds_for, descend, initial_weights, settle, step_size
from hessian.learning.descent import Answered, minimiser, search
from hessian.learning.features import FeatureSpecification, IntMatrix
from hessian.learning.fitting import fit
from hessian.learning.local_steps import member_map
from hessian.learning.metrics import auc, scores, validation_error
from hessian.learning.objective import Objective
from hessian.learning.statistics import SufficientStatistics, accumulate

CLOSE = 0.001
OUTPUT = Path("build/bench/learning_quality.json")
OBJECTIVES = {
    "gradient steps": Objective(),
    "step grid": Objective(method="grid"),
    "conjugate gradients": Objective(method="conjugate-gradients"),
    "conjugate gradients, ridge 0.001": Objective(ridge=(1 << 32) // 1000, method="conjugate-gradients"),
    "logistic-taylor1, step grid": Objective(loss="logistic-taylor1", method="grid"),
    "10 local steps": Objective(local_steps=10),
    "100 local steps": Objective(local_steps=100),
    "1 000 local steps": Objective(local_steps=1000),
}
ON_UNLIKE_OWNERS = ("conjugate gradients", "10 local steps", "100 local steps", "1 000 local steps")


@dataclass(frozen=True)
class Outcome:
    """One objective on one cut. AUCs on the test rows; `reached` None when it never came close enough."""

    reached: int | None
    after_3: float
    last: float
    least_squares: float


@dataclass(frozen=True)
class Prepared:
    """A cut as the parties see it."""

    specification: FeatureSpecification
    validation: tuple[IntMatrix, IntMatrix]
    test: tuple[IntMatrix, IntMatrix]
    owners: list[SufficientStatistics]
    least_squares: float


def prepare(rows: Cut) -> Prepared:
    """Fit on the validation rows alone, then everybody's integers."""
    specification = fit(rows.outline, rows.validation)
    owners = [specification.matrix(owner) for owner in rows.owners]
    train, labels = np.concatenate([x for x, _ in owners]), np.concatenate([y for _, y in owners])
    test = specification.matrix(rows.test)
    spread = train[:, 1:].std(axis=0)
    spread[spread == 0] = 1
    fitted = LinearRegression().fit(train[:, 1:] / spread, labels).predict(test[0][:, 1:] / spread)
    statistics = [accumulate([owner], specification.dimension) for owner in owners]
    return Prepared(specification, specification.matrix(rows.validation), test, statistics, auc(fitted, test[1]))


def replay(prepared: Prepared, objective: Objective, rounds: int) -> Outcome:
    """The rounds of one fixed cohort."""
    specification, (x, y), bits = prepared.specification, prepared.validation, prepared.specification.feature_bits
    step = step_size(accumulate([(x, y)], specification.dimension), bits, objective)
    bounds = bounds_for(specification, objective=objective, step=step)
    total = sum(owner.rows for owner in prepared.owners)
    maps = [member_map(owner, total, bits, bounds, objective, step) for owner in prepared.owners]
    weights = initial_weights(int(y.sum()), len(y), specification.dimension, bounds, objective)
    answered: list[Answered] = []

    def measure(candidate: Sequence[int]) -> int:
        return validation_error(candidate, x, y, score_bits=bounds.weight_bits + bits, objective=objective)

    areas = []
    for _ in range(rounds):
        opened = [sum(parts) for parts in zip(*(member.at(weights) for member in maps), strict=True)]
        newest = (weights, opened)
        if objective.local_steps > 1:
            weights = settle(opened, bounds)
        elif objective.method == "fixed":
            weights = descend(weights, opened, step, bounds)
        else:
            point, slope = minimiser(answered, newest, bounds) if objective.method == "conjugate-gradients" else newest
            weights, _ = search(point, slope, step, bounds, measure)
        answered.append(newest)
        areas.append(auc(scores(weights, prepared.test[0]), prepared.test[1]))
    close = [number for number, area in enumerate(areas, start=1) if area >= prepared.least_squares - CLOSE]
    return Outcome(close[0] if close else None, areas[min(2, rounds - 1)], areas[-1], prepared.least_squares)


def summary(outcomes: list[Outcome]) -> dict[str, str]:
    """Means over the cuts, with their standard errors."""
    reached = [outcome.reached for outcome in outcomes if outcome.reached is not None]
    missed = len(outcomes) - len(reached)
    return {
        "rounds to least squares": (_mean(reached, 1) if reached else "never")
        + (f" ({missed} of {len(outcomes)} never)" if missed else ""),
        "AUC − least squares after 3": _mean([outcome.after_3 - outcome.least_squares for outcome in outcomes], 4),
        "after all rounds": _mean([outcome.last - outcome.least_squares for outcome in outcomes], 4),
    }


def _mean(values: Sequence[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{digits}f}" if len(values) > 1 else mean


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="rounds to the least-squares AUC on real loans")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    wanted = parser.parse_args(arguments)
    result: dict[str, dict[str, dict[str, str]]] = {}
    for name, column in TABLES.items():
        cuts = [cut(name, seed) for seed in range(wanted.splits)]
        alike = [prepare(one) for one in cuts]
        print(f"\n{name}: {wanted.splits} cuts, least-squares AUC {_mean([one.least_squares for one in alike], 4)}\n")
        apart = [prepare(unlike(one, column)) for one in cuts]
        cases = [(label, label, alike) for label in OBJECTIVES]
        cases += [(f"{label}, owners sorted by {column}", label, apart) for label in ON_UNLIKE_OWNERS]
        result[name] = {}
        for title, label, prepared in cases:
            row = summary([replay(one, OBJECTIVES[label], wanted.rounds) for one in prepared])
            if not result[name]:
                print("| objective | " + " | ".join(row) + " |\n|---|" + "---|" * len(row))
            result[name][title] = row
            print(f"| {title} | " + " | ".join(row.values()) + " |", flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"splits": wanted.splits, "rounds": wanted.rounds, "tables": result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
