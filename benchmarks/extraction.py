"""How many quotes a copy of the model costs: real loans, the tiered decision against raw scores, no keys.

`python -m benchmarks.extraction [--copies 5]` deploys a least-squares model on the loans (d = 42) with the scale, calibration and bands
that lender-api would publish, and lets a thief ask for quotes. Thresholds and bands are public, so a quote is an interval for the score:

    raw scores      what a lender would give away that answered with the score itself; the thief solves for the weights
    quotes, rows    the thief applies with rows like anybody's and fits a score that respects every interval
    quotes, chosen  the thief lies about its features and halves lines between applicants until it stands on a threshold
    quotes, crafted the thief sends ciphertexts that hold no features at all, a·w_j + c, and closes in on one weight after the other

A copy is judged on loans the thief never saw: Spearman's rank correlation with the model's scores, and its own AUC. Private, open and
plaintext decisions are equal (tests), so the decision is computed in plaintext. JSON goes to build/bench/extraction.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devstack.demo import lending_club
from hessian.learning.calibration import CalibrationTable
from hessian.learning.calibration_fitting import fit_calibration
from hessian.learning.features import IntMatrix
from hessian.learning.fitting import Outline, fit
from hessian.learning.metrics import auc, scores
from hessian.learning.scoring import ScoringScale, scale_for

OUTPUT = Path("build/bench/extraction.json")
WEIGHT_BITS = 24
GOALS = (0.9, 0.95, 0.99)
BANDS = (2, 5, 10, 16)
QUOTES = (10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500)
MOST_CHOSEN, MOST_CRAFTED = 3_000, 900
HALVINGS = 12
_ROUNDS_OF_FITTING = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Victim:
    """A deployed model: x at the scoring scale; `pool` rows like anybody's, `unseen` rows to judge copies on."""

    weights: list[int]
    scale: ScoringScale
    table: CalibrationTable
    pool: IntMatrix
    unseen: IntMatrix
    unseen_labels: IntMatrix
    numeric: int  # entries 1 … numeric are numbers, the rest are levels of categories

    def bands(self, rows: IntMatrix) -> list[int]:
        """What quotes say: band indices."""
        return [self.table.band_of(score) for score in scores(self.weights, rows)]


def deploy(seed: int, most_bands: int) -> Victim:
    """One cut of the loans, a model, and what would be published of it."""
    shards = lending_club.split(lending_club.load(), seed)
    specification = fit(Outline.from_plain(lending_club.OUTLINE), shards.validation)
    train = [specification.matrix(owner) for owner in shards.owners]
    x, y = np.concatenate([part for part, _ in train]), np.concatenate([part for _, part in train])
    real = x / 2.0**specification.feature_bits
    solved = np.linalg.solve(real.T @ real + 1e-3 * len(y) * np.eye(x.shape[1]), real.T @ y)
    weights = [round(weight * 2**WEIGHT_BITS) for weight in solved.tolist()]
    scale = scale_for(specification, weights, WEIGHT_BITS)
    coarse = scale.weights(weights, WEIGHT_BITS)
    checked, checked_labels = specification.matrix(shards.validation)
    calibration = fit_calibration(scores(coarse, scale.features(specification, checked)), checked_labels, bands=most_bands)
    unseen, unseen_labels = specification.matrix(shards.test)
    numeric = sum(len(feature.entry_names) == 1 for feature in specification.features)
    pool = scale.features(specification, x)
    return Victim(coarse, scale, calibration.table, pool, scale.features(specification, unseen), unseen_labels, numeric)


def judge(victim: Victim, copy: Floats) -> tuple[float, float]:
    """(rank correlation with the model's scores, AUC) of a copy on unseen rows."""
    own = victim.unseen @ copy
    return float(np.corrcoef(_ranks(scores(victim.weights, victim.unseen)), _ranks(own))[0, 1]), auc(own, victim.unseen_labels)


def _ranks(values: Sequence[float] | Floats) -> Floats:
    """Ties, which scores of many bits hardly have, in order of appearance."""
    ranks: Floats = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    return ranks


def from_raw_scores(victim: Victim, count: int, random: np.random.Generator) -> Floats:
    """Least squares on exact scores."""
    rows = victim.pool[random.choice(len(victim.pool), count, replace=False)]
    solution: Floats = np.linalg.lstsq(rows.astype(np.float64), np.array(scores(victim.weights, rows), dtype=np.float64), rcond=None)[0]
    return solution


def from_rows(victim: Victim, count: int, random: np.random.Generator) -> Floats:
    """Applicants like anybody: a score inside every interval that the quotes allow."""
    rows = victim.pool[random.choice(len(victim.pool), count, replace=False)]
    return _within_intervals(victim, rows, np.array(victim.bands(rows)))


def _within_intervals(victim: Victim, rows: IntMatrix, bands: IntMatrix) -> Floats:
    """Alternates between a ridge fit and moving each fitted score into the interval its quote gave."""
    edges = np.array(victim.table.thresholds, dtype=np.float64)
    width = float(np.median(np.diff(edges))) if len(edges) > 1 else abs(edges[0])
    low, high = np.concatenate([[edges[0] - 4 * width], edges])[bands], np.concatenate([edges, [edges[-1] + 8 * width]])[bands]
    x = rows.astype(np.float64)
    spread = np.sqrt((x**2).mean(axis=0)) + 1e-9
    unit = x / spread
    solver = np.linalg.solve(unit.T @ unit + 1e-2 * np.eye(x.shape[1]), unit.T)
    wanted = (low + high) / 2
    for _ in range(_ROUNDS_OF_FITTING):
        fitted = solver @ wanted
        wanted = np.clip(unit @ fitted, low, high)
    result: Floats = (solver @ wanted) / spread
    return result


def from_chosen(victim: Victim, random: np.random.Generator) -> Iterator[tuple[int, Floats]]:
    """(quotes so far, copy) after every threshold found: numbers halved between two applicants, the categories those of one."""
    equations: list[Floats] = []
    thresholds: list[float] = []
    quotes = 0
    while True:
        ends = victim.pool[random.choice(len(victim.pool), 2, replace=False)].copy()
        ends[1, victim.numeric + 1 :] = ends[0, victim.numeric + 1 :]
        bands, quotes = victim.bands(ends), quotes + 2
        if bands[0] == bands[1]:
            continue
        below, above = ends if bands[0] < bands[1] else ends[::-1]
        for _ in range(HALVINGS):
            middle = (below + above) // 2
            [band], quotes = victim.bands(middle[np.newaxis]), quotes + 1
            below, above = (middle, above) if band <= min(bands) else (below, middle)
        equations.append((below + above) / 2)
        thresholds.append(float(victim.table.thresholds[min(bands)]))
        yield quotes, np.linalg.lstsq(np.array(equations), np.array(thresholds), rcond=1e-6)[0]


def from_crafted(victim: Victim) -> Iterator[tuple[int, Floats]]:
    """(quotes so far, copy) after every round of one quote per weight. a·w_j + c spreads what w_j can still be over all bands."""
    edges, quotes = victim.table.thresholds, 0
    low, high = [-victim.scale.largest_weight] * len(victim.weights), [victim.scale.largest_weight] * len(victim.weights)
    span = edges[-1] - edges[0]
    margin = span // (len(edges) - 1) if span else 0
    while True:
        for j, weight in enumerate(victim.weights):
            factor = max(1, (span + 2 * margin) // (high[j] - low[j] + 1))
            shift = (edges[0] + edges[-1]) // 2 - factor * (low[j] + high[j]) // 2
            band, quotes = victim.table.band_of(factor * weight + shift), quotes + 1
            if band > 0:
                low[j] = max(low[j], -((shift - edges[band - 1]) // factor))
            if band < len(edges):
                high[j] = min(high[j], (edges[band] - 1 - shift) // factor)
        yield quotes, (np.array(low) + np.array(high)) / 2


def first_reached(path: Sequence[tuple[int, float]], goal: float) -> float:
    """The fewest quotes from which on the copy is never worse than the goal again; infinite when it is at the end."""
    reached = float("inf")
    for quotes, value in path:
        reached = min(reached, quotes) if value >= goal else float("inf")
    return reached


def thefts(victim: Victim, seed: int) -> dict[str, list[tuple[int, float, float]]]:
    """(quotes, rank correlation, AUC) along the four ways."""
    random = np.random.default_rng(seed)
    chosen = takewhile(lambda step: step[0] <= MOST_CHOSEN, from_chosen(victim, random))
    crafted = takewhile(lambda step: step[0] <= MOST_CRAFTED, from_crafted(victim))
    return {
        "raw scores": [(count, *judge(victim, from_raw_scores(victim, count, random))) for count in QUOTES],
        "quotes, rows": [(count, *judge(victim, from_rows(victim, count, random))) for count in QUOTES],
        "quotes, chosen": [(quotes, *judge(victim, copy)) for quotes, copy in chosen],
        "quotes, crafted": [(quotes, *judge(victim, copy)) for quotes, copy in crafted],
    }


def measure(copies: int, most_bands: int) -> dict[str, dict[str, int | None]]:
    """Per way: the median, over cuts of the loans, of the quotes that each goal takes; None when half of the cuts never got there."""
    taken: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(copies):
        victim = deploy(lending_club.SEED + seed, most_bands)
        own = auc(scores(victim.weights, victim.unseen), victim.unseen_labels)
        for way, path in thefts(victim, seed).items():
            for goal in GOALS:
                taken[way][f"rank correlation {goal}"].append(first_reached([(quotes, rank) for quotes, rank, _ in path], goal))
            taken[way]["AUC within 0.01"].append(first_reached([(quotes, area) for quotes, _, area in path], own - 0.01))
    return {way: {goal: _median(counts) for goal, counts in goals.items()} for way, goals in taken.items()}


def _median(counts: Sequence[float]) -> int | None:
    middle = statistics.median_high(counts)
    return int(middle) if middle < float("inf") else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one Markdown table: quotes (medians) by goal."""
    parser = argparse.ArgumentParser(description="quotes needed to copy the ranking of a deployed model")
    parser.add_argument("--copies", type=int, default=5, help="cuts of the loans")
    copies = parser.parse_args(arguments).copies
    result = {bands: measure(copies, bands) for bands in BANDS}
    columns = list(result[BANDS[0]]["raw scores"])
    print("| bands at most | the thief has | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
    for bands, ways in result.items():
        for way, goals in ways.items():
            if way != "raw scores" or bands == BANDS[0]:
                print(
                    f"| {'—' if way == 'raw scores' else bands} | {way} | "
                    + " | ".join(str(goals[column] or "not reached") for column in columns)
                    + " |"
                )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"copies": copies, "by_bands": result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
