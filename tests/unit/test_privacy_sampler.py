"""The sampler against the exact probabilities, with the operating system's randomness: each test errs less than once in 10⁹ runs.

The χ² threshold is that of 10⁻¹², with at least 200 expected per bin: the multinomial's tail would have to be a thousand times as heavy as
the χ² distribution's for the promise to fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from math import exp, fsum, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hessian.privacy.discrete_gaussian import Coins, discrete_gaussian, discrete_laplace

DRAWS = 20_000
LEAST_EXPECTED = 200
NEVER = 1e-12


def chi_square(drawn: Sequence[int], weight: dict[int, float]) -> float:
    """The p-value of draws against unnormalised weights; what is expected too rarely joins the outermost bins."""
    total = fsum(weight.values())
    kept = [value for value in weight if DRAWS * weight[value] / total >= LEAST_EXPECTED]
    low, high = min(kept), max(kept)
    places = range(low, high + 1)
    seen = Counter(max(low, min(high, value)) for value in drawn)
    expected = dict.fromkeys(places, 0.0)
    for value, chance in weight.items():
        expected[max(low, min(high, value))] += chance * len(drawn) / total
    statistic = fsum((seen[place] - expected[place]) ** 2 / expected[place] for place in places)
    return float(stats.chi2.sf(statistic, len(places) - 1))


@pytest.mark.parametrize("variance", [Fraction(1, 3), Fraction(1), Fraction(5, 2), Fraction(400, 7)])
def test_discrete_gaussian__many_draws__have_the_exact_probabilities(variance: Fraction) -> None:
    coins, reach = Coins(), int(12 * sqrt(variance)) + 12
    weight = {x: exp(-(x**2) / (2 * float(variance))) for x in range(-reach, reach + 1)}

    assert chi_square([discrete_gaussian(variance, coins) for _ in range(DRAWS)], weight) > NEVER


def test_discrete_gaussian__of_the_size_of_real_noise__has_a_gaussian_shape_and_even_low_bits() -> None:
    """σ of 2⁴⁰: 32 slices of equal probability, and the lowest five bits, which floating point would leave uneven."""
    coins, variance = Coins(), Fraction(2**80 * 3, 7)
    drawn = [discrete_gaussian(variance, coins) for _ in range(DRAWS)]
    slices = Counter(int(32 * stats.norm.cdf(x / sqrt(variance))) for x in drawn)
    bits = Counter(x % 32 for x in drawn)

    for counted in (slices, bits):
        statistic = sum((counted[place] - DRAWS / 32) ** 2 / (DRAWS / 32) for place in range(32))
        assert stats.chi2.sf(statistic, 31) > NEVER


@pytest.mark.parametrize("scale", [1, 2, 7])
def test_discrete_laplace__many_draws__have_the_exact_probabilities(scale: int) -> None:
    coins = Coins()
    weight = {x: exp(-abs(x) / scale) for x in range(-60 * scale, 60 * scale + 1)}

    assert chi_square([discrete_laplace(scale, coins) for _ in range(DRAWS)], weight) > NEVER


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 3), (1, 1), (5, 2), (7, 1)])
def test_survives__any_ratio__has_the_exponential_probability(numerator: int, denominator: int) -> None:
    coins, chance = Coins(), exp(-numerator / denominator)
    seen = sum(coins.survives(numerator, denominator) for _ in range(DRAWS))

    assert min(stats.binom.cdf(seen, DRAWS, chance), stats.binom.sf(seen - 1, DRAWS, chance)) > NEVER


@given(st.binary(min_size=1, max_size=64), st.lists(st.integers(0, 70), max_size=40))
def test_bits__cut_anywhere__spend_each_random_bit_once(seed: bytes, widths: list[int]) -> None:
    served = bytearray()

    def source(count: int) -> bytes:
        block = bytes(islice((seed[i % len(seed)] for i in range(len(served), len(served) + count)), count))
        served.extend(block)
        return block

    coins = Coins(source)
    taken, place = 0, 0
    for width in widths:
        taken |= coins.bits(width) << place
        place += width
    blocks = [served[start : start + 4096] for start in range(0, len(served), 4096)]
    whole = sum(int.from_bytes(block, "big") << (8 * 4096 * index) for index, block in enumerate(blocks))
    assert taken == whole & ((1 << place) - 1)


@given(st.integers(1, 2**200))
def test_below__any_end__stays_below_it(end: int) -> None:
    assert all(0 <= Coins().below(end) < end for _ in range(3))
