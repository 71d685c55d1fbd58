"""What the lender makes of opened gradients: the grid by the validation error, conjugate gradients to the exact minimiser."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.learning.affine import FixedPointBounds, descend
from hessian.learning.descent import GRID, Answered, minimiser, search

BOUNDS = FixedPointBounds(weight_bits=32, matrix_bits=20, largest_weight=64, largest_row_sum=1, largest_offset=1)
ONE = 1 << BOUNDS.weight_bits


class Quadratic:
    """½·wᵀAw − bᵀw with eigenvalues spread over three decades."""

    def __init__(self, seed: int, dimension: int) -> None:
        generator = np.random.default_rng(seed)
        vectors = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0]
        real = (vectors * np.geomspace(0.001, 1.0, dimension)) @ vectors.T
        self.matrix = [[round((real[i, j] + real[j, i]) * 2**19) for j in range(dimension)] for i in range(dimension)]
        self.minimum = [int(value) for value in generator.integers(-2 * ONE, 2 * ONE, size=dimension)]

    def gradient(self, weights: list[int]) -> list[int]:
        away = [weight - best for weight, best in zip(weights, self.minimum, strict=True)]
        return [sum(a * b for a, b in zip(row, away, strict=True)) for row in self.matrix]

    def excess(self, weights: list[int]) -> int:
        away = [weight - best for weight, best in zip(weights, self.minimum, strict=True)]
        return sum(a * b for a, b in zip(away, self.gradient(weights), strict=True))


def conjugate_path(problem: Quadratic, rounds: int, step: int) -> list[list[int]]:
    """The weights of each round, as the lender would publish them."""
    path: list[list[int]] = [[0] * len(problem.minimum)]
    pairs: list[Answered] = []
    for _ in range(rounds):
        newest = (path[-1], problem.gradient(path[-1]))
        start, slope = minimiser(pairs, newest, BOUNDS)
        pairs.append(newest)
        path.append(descend(start, slope, step, BOUNDS))
    return path


def test_minimiser__as_many_rounds_as_dimensions__is_the_exact_minimum() -> None:
    problem = Quadratic(5, 12)
    path = conjugate_path(problem, 14, step=1 << 32)
    plain = [0] * 12
    for _ in range(14):
        plain = descend(plain, problem.gradient(plain), 1 << 32, BOUNDS)

    assert path[-1] == problem.minimum
    assert 1000 * problem.excess(plain) > problem.excess(path[0])  # plain steps have hardly begun along the flat directions


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1 << 30, 1 << 33))
@settings(deadline=None, max_examples=40)
def test_minimiser__any_quadratic_and_any_steps__never_gets_worse(seed: int, dimension: int, step: int) -> None:
    problem = Quadratic(seed, dimension)
    path = conjugate_path(problem, dimension + 3, step)
    pairs = [(weights, problem.gradient(weights)) for weights in path]
    least = [problem.excess(minimiser(pairs[:count], pairs[count], BOUNDS)[0]) for count in range(len(pairs))]
    rounding = 4 * len(problem.minimum) ** 2 << BOUNDS.matrix_bits  # half a unit of every weight

    assert all(after <= before + rounding for before, after in pairwise(least))


def test_minimiser__an_answer_no_curvature_explains__starts_anew_from_it() -> None:
    problem = Quadratic(3, 4)
    first, second = [0] * 4, [ONE, 0, -ONE, 0]
    garbage = [-1 << 60, 0, 1 << 60, 0]

    assert minimiser([(first, problem.gradient(first))], (second, garbage), BOUNDS) == (second, garbage)


def test_minimiser__garbage_in_the_middle__keeps_what_was_answered_after_it() -> None:
    problem = Quadratic(3, 4)
    points = [[0] * 4, [ONE, 0, -ONE, 0], [0, ONE, 0, 0], [0, 0, 0, ONE]]
    honest: list[Answered] = [(point, problem.gradient(point)) for point in points]
    spoiled: list[Answered] = [honest[0], (points[1], [7 << 50, 1, 2, 3]), honest[2]]

    assert minimiser(spoiled, honest[3], BOUNDS) == minimiser([honest[2]], honest[3], BOUNDS)


def test_minimiser__nothing_earlier__is_the_newest_pair() -> None:
    assert minimiser([], ([1, -2], [3, 4]), BOUNDS) == ([1, -2], [3, 4])


def test_minimiser__minimum_outside_the_weights__is_clamped() -> None:
    narrow = replace(BOUNDS, largest_weight=1)
    problem = Quadratic(8, 3)
    problem.minimum = [5 * ONE, -5 * ONE, 0]
    pairs: list[Answered] = [(weights, problem.gradient(weights)) for weights in ([0, 0, 0], [ONE, 0, 0], [0, ONE, 0], [0, 0, ONE])]

    assert minimiser(pairs[:3], pairs[3], narrow)[0] == [ONE, -ONE, 0]
    assert minimiser(pairs[:3], pairs[3], BOUNDS)[0] == problem.minimum


def test_search__the_grid__takes_the_step_that_measures_least() -> None:
    weights, gradient, step = [0], [-1 << BOUNDS.gradient_bits], 1 << 30  # a quarter of the way to 1 at η
    taken, size = search(weights, gradient, step, BOUNDS, lambda candidate: abs(candidate[0] - ONE))

    assert (taken, size) == ([ONE], 4 * step)


@given(st.integers(-64 * ONE, 64 * ONE), st.integers(1, 1 << 40))
def test_search__whatever_is_wanted__is_no_worse_than_the_plain_step(wish: int, step: int) -> None:
    weights, gradient = [ONE], [3 << BOUNDS.gradient_bits]
    taken, size = search(weights, gradient, step, BOUNDS, lambda candidate: abs(candidate[0] - wish))

    assert abs(taken[0] - wish) <= abs(descend(weights, gradient, step, BOUNDS)[0] - wish)
    assert taken == descend(weights, gradient, size, BOUNDS)
    assert size in {max(1, min(1 << 40, int(multiple * step))) for multiple in GRID}
