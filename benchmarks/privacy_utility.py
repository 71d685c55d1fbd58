"""What differential privacy costs on real loans: test AUC against ε, the number of owners and of rows; exact integers, no keys.

`python -m benchmarks.privacy_utility [--splits 10] [--rounds 8]` replays the encrypted run's own arithmetic, noise included, on several
cuts of the Lending Club loans and prints a Markdown table; JSON goes to build/bench/privacy_utility.json. Every owner clips its rows and
draws its own noise (δ = 10⁻⁶), so k owners bring k times the variance of one. The lender takes the step of the published grid that its
validation rows like best, and keeps the best weights of all rounds; ± is the standard error over the cuts, of the difference to training
without noise on the same rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tables_of_loans import cut
from hessian.learning.affine import FixedPointBounds, bounds_for, gradient_map, initial_weights, step_size
from hessian.learning.descent import search
from hessian.learning.features import FeatureSpecification, IntMatrix
from hessian.learning.fitting import fit
from hessian.learning.metrics import auc, scores, validation_error
from hessian.learning.objective import Objective
from hessian.learning.statistics import SufficientStatistics, accumulate
from hessian.privacy.accounting import rho_for
from hessian.privacy.clipping import clip_rows, norm_quantile
from hessian.privacy.noise import noised
from hessian.privacy.requirement import UNIT, PrivacyRequirement

OUTPUT = Path("build/bench/privacy_utility.json")
DELTA = UNIT // 10**6
EPSILONS = ("0.5", "1", "2", "4", "8")
OWNERS = (1, 5, 20)
ROWS = (2_000, 8_000)
OBJECTIVE = Objective(method="grid")


@dataclass(frozen=True)
class Prepared:
    """A cut as the parties see it, with the train rows in one block."""

    specification: FeatureSpecification
    train: tuple[IntMatrix, IntMatrix]
    validation: tuple[IntMatrix, IntMatrix]
    test: tuple[IntMatrix, IntMatrix]
    clip_norm: int


def prepare(seed: int, clip_share: float) -> Prepared:
    """Fit on the validation rows alone, the clip norm included: the one that `clip_share` of them keep."""
    rows = cut("lending_club", seed)
    specification = fit(rows.outline, rows.validation)
    owners = [specification.matrix(owner) for owner in rows.owners]
    train = np.concatenate([x for x, _ in owners]), np.concatenate([y for _, y in owners])
    validation = specification.matrix(rows.validation)
    return Prepared(specification, train, validation, specification.matrix(rows.test), norm_quantile(validation[0], clip_share))


def members(prepared: Prepared, rows: int, owners: int, clip_norm: int | None) -> list[SufficientStatistics]:
    """Exact statistics of equal owners over the first train rows of a fixed shuffle."""
    x, y = prepared.train
    chosen = np.random.default_rng(rows).permutation(len(y))[:rows]
    blocks = [(x[part] if clip_norm is None else clip_rows(x[part], clip_norm), y[part]) for part in np.array_split(chosen, owners)]
    return [accumulate([block], prepared.specification.dimension) for block in blocks]


def train(prepared: Prepared, parts: Sequence[SufficientStatistics], bounds: FixedPointBounds, step: int, rounds: int) -> float:
    """The test AUC of the weights that the validation rows like best."""
    specification, (x, y) = prepared.specification, prepared.validation
    total, bits = sum(part.rows for part in parts), specification.feature_bits
    maps = [gradient_map(part, total, bits, bounds, OBJECTIVE) for part in parts]

    def measure(candidate: Sequence[int]) -> int:
        return validation_error(candidate, x, y, score_bits=bounds.weight_bits + bits, objective=OBJECTIVE)

    weights = initial_weights(int(y.sum()), len(y), specification.dimension, bounds, OBJECTIVE)
    path = [weights]
    for _ in range(rounds):
        opened = [sum(entries) for entries in zip(*(member.at(weights) for member in maps), strict=True)]
        weights, _ = search(weights, opened, step, bounds, measure)
        path.append(weights)
    return auc(scores(min(path, key=measure), prepared.test[0]), prepared.test[1])


def losses(prepared: Prepared, rows: int, owners: int, rounds: int) -> dict[str, float]:
    """AUC without noise, and by how much clipping and each ε change it."""
    specification = prepared.specification
    step = step_size(accumulate([prepared.validation], specification.dimension), specification.feature_bits, OBJECTIVE)
    exact = train(prepared, members(prepared, rows, owners, None), bounds_for(specification, objective=OBJECTIVE, step=step), step, rounds)
    clipped = members(prepared, rows, owners, prepared.clip_norm)
    outcome = {"exact": exact}
    for epsilon in EPSILONS:
        worth = int(float(epsilon) * UNIT)
        requirement = PrivacyRequirement(worth, DELTA, rho_for(worth, DELTA), prepared.clip_norm)
        bounds = requirement.bounds(specification, OBJECTIVE, step)
        if "clipped" not in outcome:
            outcome["clipped"] = train(prepared, clipped, bounds, step, rounds) - exact
        drawn = [noised(part, requirement, specification.feature_bits) for part in clipped]
        outcome[epsilon] = train(prepared, drawn, bounds, step, rounds) - exact
    return outcome


def row(rows: int, owners: int, outcomes: Sequence[dict[str, float]]) -> dict[str, str]:
    """Means over the cuts, with their standard errors."""
    shown = {"rows": f"{rows:,}".replace(",", " "), "owners": str(owners)}
    for name in outcomes[0]:
        values = [outcome[name] for outcome in outcomes]
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        label = {"exact": "AUC without noise", "clipped": "clipping alone"}.get(name, f"ε = {name}")
        shown[label] = f"{np.mean(values):.3f} ± {error:.3f}" if name == "exact" else f"{np.mean(values):+.3f} ± {error:.3f}"
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="test AUC under differential privacy on real loans")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clip-share", type=float, default=0.5, help="share of the validation rows that the clip norm leaves as they are")
    wanted = parser.parse_args(arguments)
    cuts = [prepare(seed, wanted.clip_share) for seed in range(wanted.splits)]
    table = []
    for rows in ROWS:
        for owners in OWNERS:
            table.append(row(rows, owners, [losses(prepared, rows, owners, wanted.rounds) for prepared in cuts]))
            if len(table) == 1:
                print("| " + " | ".join(table[0]) + " |\n|" + "---|" * len(table[0]))
            print("| " + " | ".join(table[-1].values()) + " |", flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "delta": "1e-6",
        **vars(wanted),
        "clip_norms": [one.clip_norm / (1 << one.specification.feature_bits) for one in cuts],
        "table": table,
    }
    OUTPUT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
