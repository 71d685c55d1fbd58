"""K local steps composed into one affine map (PROTOCOL §3, "Local steps"): whatever K, one homomorphic pass.

    Ā = α·Gᵢ/nᵢ + ρ·I', eigenvalues projected to [0, 1/η]      M = (I − η·Ā)^K      c = Σ_{k<K} (I − η·Ā)^k · η·bᵢ

and the member sends (nᵢ/N)·(M·w + c): a round opens the cohort's mean of its members' weights after K steps each. On unlike owners that
converges to another point than pooled training does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hessian.learning.affine import AffineMap, FixedPointBounds, curvature, doubled_offset, gradient_map
from hessian.learning.objective import STEP_BITS, Objective
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics


def member_map(
    statistics: SufficientStatistics, total_rows: int, feature_bits: int, bounds: FixedPointBounds, objective: Objective, step: int
) -> AffineMap:
    """What a member contributes under this objective: its gradient, or its composed steps of η = `step`·2^-32. Raises StatisticsRefused."""
    if objective.local_steps == 1:
        return gradient_map(statistics, total_rows, feature_bits, bounds, objective)
    if not 1 <= statistics.rows <= total_rows:
        raise StatisticsRefused("a member's rows must be part of the cohort's")
    matrix, offset = _compose(statistics, feature_bits, objective, step / 2.0**STEP_BITS)
    share = statistics.rows / total_rows
    if np.abs(matrix).sum(axis=1).max() > bounds.largest_row_sum or np.abs(offset).max() > bounds.largest_offset:
        raise StatisticsRefused("the composed steps leave the manifest's bounds")
    return AffineMap(
        tuple(tuple(_integers(share * row * 2.0**bounds.matrix_bits)) for row in matrix),
        tuple(_integers(-share * offset * 2.0**bounds.gradient_bits)),
    )


def _compose(
    statistics: SufficientStatistics, feature_bits: int, objective: Objective, step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, c) in float64, through the eigenvectors of Ā: a power of a matrix costs the same for any K."""
    values, vectors = np.linalg.eigh(curvature(statistics, feature_bits, objective))
    shrink = 1 - np.clip(step * values, 0.0, 1.0)  # eigenvalues of I − ηĀ
    powers = shrink**objective.local_steps
    # Σ_{k<K} s^k = (1 − s^K)/(1 − s), and K where s = 1; expm1/log1p keep the digits where s is nearly 1
    inside = (shrink > 0.0) & (shrink < 1.0)
    sums = np.where(shrink == 1.0, float(objective.local_steps), 1.0)
    slow = shrink[inside]
    sums[inside] = -np.expm1(objective.local_steps * np.log1p(slow - 1)) / (1 - slow)
    divisor = 2 * statistics.rows * 4.0**feature_bits
    mean = np.array([float(entry) / divisor for entry in doubled_offset(statistics, feature_bits, objective)])
    return (vectors * powers) @ vectors.T, (vectors * sums) @ (vectors.T @ (step * mean))


def _integers(values: NDArray[np.float64]) -> list[int]:
    return [int(value) for value in np.rint(values)]
