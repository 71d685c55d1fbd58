"""The noise on the base statistics: drawn once per release and kept for ever, never redrawn (PROTOCOL §5).

An owner cannot clip what it computes under encryption, so noise on a gradient would be unsound, and fresh noise on the same statistics
would average out. With noise on (G, h) everything that is sent later, for any weights and any number of rounds, is post-processing.
"""

from __future__ import annotations

from fractions import Fraction

from hessian.learning.features import FeatureSpecification
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics
from hessian.privacy.discrete_gaussian import Coins, discrete_gaussian
from hessian.privacy.requirement import CLAMP_MARGIN, PrivacyRequirement


def noised(
    statistics: SufficientStatistics, requirement: PrivacyRequirement, feature_bits: int, coins: Coins | None = None
) -> SufficientStatistics:
    """(G, h) of clipped rows under fresh noise: G stays symmetric, entries are clamped to what the manifest's bounds were made for.

    G's first entry is the number of rows, which is public: it keeps its value. `coins` are the operating system's unless a test says
    otherwise. About 25 µs an entry.
    """
    source = coins or Coins()
    variances = requirement.variances(feature_bits)
    gram_limit, moment_limit = _limits(statistics.rows, requirement)
    d = statistics.dimension
    gram = [list(row) for row in statistics.gram]
    for i in range(1, d):
        for j in range(i + 1):
            variance = variances.diagonal if i == j else variances.off_diagonal
            gram[i][j] = gram[j][i] = _noised(gram[i][j], variance, gram_limit, source)
    moment = tuple(_noised(entry, variances.moment, moment_limit, source) for entry in statistics.moment)
    return SufficientStatistics(statistics.rows, tuple(map(tuple, gram)), moment)


def check_noised(statistics: SufficientStatistics, requirement: PrivacyRequirement, specification: FeatureSpecification) -> None:
    """Could these be noised statistics of this specification? Bounds that cover the requirement then hold. Raises StatisticsRefused.

    Less can be asked than of exact ones: noise makes negative squares, and matrices with negative eigenvalues, where rows are few.
    """
    d, n = specification.dimension, statistics.rows
    gram, moment = statistics.gram, statistics.moment
    if n < 1 or len(moment) != d or len(gram) != d or any(len(row) != d for row in gram):
        raise StatisticsRefused("the statistics do not have the specification's shape")
    if gram[0][0] != n << (2 * specification.feature_bits):
        raise StatisticsRefused("the intercept's square does not count the rows")
    if any(gram[i][j] != gram[j][i] for i in range(d) for j in range(i)):
        raise StatisticsRefused("the matrix is not symmetric")
    gram_limit, moment_limit = _limits(n, requirement)
    if any(abs(entry) > gram_limit for row in gram for entry in row) or any(abs(entry) > moment_limit for entry in moment):
        raise StatisticsRefused("an entry is larger than noised entries are clamped to")


def _limits(rows: int, requirement: PrivacyRequirement) -> tuple[int, int]:
    """Of G at 2^-2f and of the moment at 2^-(f+1)."""
    return CLAMP_MARGIN * rows * requirement.clip_norm**2, CLAMP_MARGIN * rows * requirement.clip_norm


def _noised(entry: int, variance: Fraction, limit: int, coins: Coins) -> int:
    return max(-limit, min(limit, entry + discrete_gaussian(variance, coins)))
