"""Rows clipped to the published norm, the one step of differential privacy that looks at rows (PROTOCOL §5)."""

from __future__ import annotations

import numpy as np

from hessian.errors import Violated
from hessian.learning.features import IntMatrix

_MARGIN = 1.0 - 2.0**-40  # more than what three roundings to 53 bits can add


class ClipFailed(Violated):
    """A clipped row is longer than the clip norm: the sensitivity that the noise is made for does not hold."""


def clip_rows(features: IntMatrix, clip_norm: int) -> IntMatrix:
    """Quantised rows (n × d, the intercept first) with ‖row‖₂ ≤ clip_norm, both at 2^-feature_bits; a longer row is shortened.

    The intercept keeps its value and counts towards the norm: only the other entries shrink, all by the same factor and towards zero, so
    that G still counts the rows exactly. IEEE operations that round correctly, then a check in integers. Raises ClipFailed.
    """
    budget = clip_norm**2 - int(features[0, 0]) ** 2 if len(features) else 0
    squares = (features[:, 1:] ** 2).sum(axis=1)  # at most 1024 · 2^52
    long = squares > budget
    if not long.any():
        return features
    factors = np.sqrt(max(budget, 0) / squares[long].astype(np.float64)) * _MARGIN
    clipped = features.copy()
    clipped[long, 1:] = np.trunc(features[long, 1:] * factors[:, np.newaxis]).astype(np.int64)
    if ((clipped[:, 1:] ** 2).sum(axis=1) > budget).any():
        raise ClipFailed
    return clipped


def norm_quantile(features: IntMatrix, share: float) -> int:
    """The norm that this share of the rows keeps, at 2^-feature_bits, rounded up: the lender's suggestion from its own validation rows."""
    norms = np.sqrt((features.astype(np.float64) ** 2).sum(axis=1))
    return int(np.ceil(np.quantile(norms, share)))
