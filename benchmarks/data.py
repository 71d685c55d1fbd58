"""The room of the data: one owner's gradient map on real loans and on synthetic rows, ready for any library to apply.

Real: Lending Club's loans as the demo fits them (d = 42). Synthetic: features of twelve latent factors and as much noise again, clipped at
four deviations, an intercept in front. An owner holds all n rows of its cohort, at the bounds and scales of a manifest (fA = 20, fw = 24,
W = 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devstack.demo import lending_club
from hessian.learning.affine import FixedPointBounds, bounds_for, gradient_map
from hessian.learning.features import IntMatrix
from hessian.learning.fitting import Outline, fit
from hessian.learning.statistics import accumulate

SEED = 2017
FEATURE_BITS = 16
MEMBERS = 5
KEPT_ROWS = 32
_CLIP = 4
_FACTORS = 12


@dataclass(frozen=True)
class Case:
    """One owner's step: n rows became `matrix` (d × d at 2^-fA) and `offset` (d at 2^-(fA+fw)).

    `features` and `labels` are the first rows themselves, at 2^-16, for libraries that go row by row; `weights` is what the lender
    encrypts, d integers at 2^-fw. Passed between processes, so plain values only.
    """

    name: str
    rows: int
    bounds: FixedPointBounds
    matrix: tuple[tuple[int, ...], ...]
    offset: tuple[int, ...]
    features: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    weights: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.offset)

    @property
    def slot_bound(self) -> int:
        """L of the packing."""
        return self.bounds.slot_bound(MEMBERS, self.dimension)

    def gradient(self) -> list[int]:
        """What a correct library opens: d integers at 2^-(fA+fw)."""
        return [sum(a * w for a, w in zip(row, self.weights, strict=True)) - b for row, b in zip(self.matrix, self.offset, strict=True)]


def real_loans(rows: int) -> Case:
    """The first `rows` of the demo's train rows, n ≤ 8 000, d = 42."""
    shards = lending_club.split(lending_club.load())
    specification = fit(Outline.from_plain(lending_club.OUTLINE), shards.validation)
    parts = [specification.matrix(owner) for owner in shards.owners]
    features, labels = (np.concatenate([part[side] for part in parts])[:rows] for side in (0, 1))
    return _case("real loans", features, labels, bounds_for(specification))


def synthetic(dimension: int, rows: int) -> Case:
    """n synthetic rows of d entries."""
    draw = np.random.default_rng(SEED)
    factors = draw.normal(size=(rows, _FACTORS)) @ draw.normal(size=(_FACTORS, dimension)) / _FACTORS**0.5
    entries = np.clip((factors + draw.normal(size=(rows, dimension))) / 2**0.5, -_CLIP, _CLIP)
    entries[:, 0] = 1.0
    labels = (entries[:, 1:4].sum(axis=1) > 0).astype(np.int64)
    bounds = FixedPointBounds(24, 20, 4, largest_row_sum=_CLIP * _CLIP * dimension, largest_offset=_CLIP)
    return _case("synthetic", np.rint(entries * 2**FEATURE_BITS).astype(np.int64), labels, bounds)


def _case(name: str, features: IntMatrix, labels: IntMatrix, bounds: FixedPointBounds) -> Case:
    rows, dimension = features.shape
    statistics = accumulate([(features, labels)], dimension)
    own = gradient_map(statistics, rows, FEATURE_BITS, bounds)
    weights = np.rint(np.random.default_rng(SEED).normal(size=dimension) * 2**bounds.weight_bits / 4)
    return Case(
        name=name,
        rows=rows,
        bounds=bounds,
        matrix=own.matrix,
        offset=own.offset,
        features=tuple(tuple(row) for row in features[:KEPT_ROWS].tolist()),
        labels=tuple(labels[:KEPT_ROWS].tolist()),
        weights=tuple(int(weight) for weight in weights),
    )
