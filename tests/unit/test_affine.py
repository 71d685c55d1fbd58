"""The affine gradient in integers: against fractions, its bound at the edge with real packing, what owners refuse, the lender's step."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.errors import Malformed, Refused
from hessian.learning.affine import (
    BoundsRefused,
    FixedPointBounds,
    bounds_for,
    check_statistics,
    descend,
    descend_float64,
    gradient_map,
    initial_weights,
    step_size,
)
from hessian.learning.columns import Category, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification, IntMatrix
from hessian.learning.objective import LARGEST_STEP, STEP_BITS
from hessian.learning.plain import BILLION
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics, accumulate
from hessian.paillier.packing import pack, slot_layout, unpack

F = 8
SPECIFICATION = FeatureSpecification(
    (
        Numeric("a", -5 * BILLION, 5 * BILLION, -3 * BILLION, 3 * BILLION, 0, BILLION),
        Numeric("b", -5 * BILLION, 5 * BILLION, -2 * BILLION, 4 * BILLION, BILLION, 2 * BILLION),
        Category("c", (Level("x", ("x",), BILLION // 4, BILLION), Level("y", ("y",), 3 * BILLION // 4, BILLION))),
    ),
    Label("bad", ("1",), ("0",)),
    F,
)
BOUNDS = bounds_for(SPECIFICATION, weight_bits=12, matrix_bits=10, largest_weight=4)
D = SPECIFICATION.dimension

Row = tuple[float, float, str, int]
one_row = st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.sampled_from("xy"), st.integers(0, 1))
members_rows = st.lists(st.lists(one_row, min_size=1, max_size=6), min_size=1, max_size=4)
edge_rows = st.lists(
    st.lists(st.sampled_from([(-3.0, -2.0, "x", 1), (3.0, 4.0, "y", 1), (3.0, -2.0, "y", 0)]), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
)
some_weights = st.lists(st.integers(-BOUNDS.weight_limit, BOUNDS.weight_limit), min_size=D, max_size=D)
edge_weights = st.lists(st.sampled_from([-BOUNDS.weight_limit, BOUNDS.weight_limit]), min_size=D, max_size=D)


def matrix(rows: list[Row]) -> tuple[IntMatrix, IntMatrix]:
    columns = {
        "a": [repr(row[0]) for row in rows],
        "b": [repr(row[1]) for row in rows],
        "c": [row[2] for row in rows],
        "bad": [str(row[3]) for row in rows],
    }
    return SPECIFICATION.matrix(columns)


def statistics_of(rows: list[Row]) -> SufficientStatistics:
    return accumulate([matrix(rows)], D)


def some_statistics() -> SufficientStatistics:
    generator = np.random.default_rng(7)
    return statistics_of(
        [(float(a), float(b), "xy"[i % 2], i % 3 % 2) for i, (a, b) in enumerate(generator.normal(size=(60, 2)).clip(-5, 5))]
    )


def cohort_gradient(members: list[list[Row]], weights: list[int]) -> list[int]:
    total = sum(map(len, members))
    maps = [gradient_map(statistics_of(rows), total, F, BOUNDS) for rows in members]
    return [sum(entries) for entries in zip(*(each.at(weights) for each in maps), strict=True)]


@given(members_rows, some_weights)
@settings(deadline=None)
def test_gradient_map__members_together__is_the_mean_gradient_within_the_stated_rounding(
    members: list[list[Row]], weights: list[int]
) -> None:
    x, y = matrix([row for rows in members for row in rows])
    real = [[Fraction(entry, 1 << F) for entry in row] for row in x.tolist()]
    w = [Fraction(weight, 1 << BOUNDS.weight_bits) for weight in weights]
    residuals = [sum(a * b for a, b in zip(row, w, strict=True)) - label for row, label in zip(real, y.tolist(), strict=True)]
    exact = [sum(row[j] * residual for row, residual in zip(real, residuals, strict=True)) / len(real) for j in range(D)]
    rounding = Fraction(len(members) * (D * BOUNDS.weight_limit + 1), 2)

    for entry, mean in zip(cohort_gradient(members, weights), exact, strict=True):
        assert abs(entry - mean * (1 << BOUNDS.gradient_bits)) <= rounding


@given(st.one_of(members_rows, edge_rows), st.one_of(some_weights, edge_weights))
@settings(deadline=None)
def test_slot_bound__any_honest_cohort__packs_and_unpacks_without_touching_a_neighbour(
    members: list[list[Row]], weights: list[int]
) -> None:
    gradient = cohort_gradient(members, weights)
    layout = slot_layout(512, bound=BOUNDS.slot_bound(len(members), D))

    assert max(map(abs, gradient)) <= layout.bound
    assert unpack(pack(gradient, layout), layout, D) == gradient


def test_slot_bound__worst_row_and_weights__is_nearly_reached() -> None:
    rows: list[Row] = [(-3.0, -2.0, "x", 1)]
    x, _ = matrix(rows)
    weights = [-BOUNDS.weight_limit if entry > 0 else BOUNDS.weight_limit for entry in x[0].tolist()]
    largest = max(map(abs, cohort_gradient([rows] * 5, weights)))
    bound = BOUNDS.slot_bound(5, D)

    assert largest <= bound
    assert largest > 0.85 * bound


def test_slot_bound__members_and_dimension__add_only_rounding() -> None:
    exact = (BOUNDS.largest_row_sum * 4 + BOUNDS.largest_offset) << BOUNDS.gradient_bits

    assert BOUNDS.slot_bound(1, 1) == exact + (BOUNDS.weight_limit + 2) // 2
    assert BOUNDS.slot_bound(7, 3) == exact + (7 * (3 * BOUNDS.weight_limit + 1) + 1) // 2


def test_gradient_map__more_rows_than_the_cohort_declared__is_refused() -> None:
    with pytest.raises(StatisticsRefused):
        gradient_map(some_statistics(), 59, F, BOUNDS)


def test_check_statistics__honest_rows__pass() -> None:
    check_statistics(some_statistics(), SPECIFICATION)


@given(edge_rows)
@settings(deadline=None)
def test_check_statistics__rows_at_the_clips__pass(members: list[list[Row]]) -> None:
    for rows in members:
        check_statistics(statistics_of(rows), SPECIFICATION)


def edited(i: int, j: int, value: int, *, mirror: bool = True) -> SufficientStatistics:
    honest = some_statistics()
    gram = [list(row) for row in honest.gram]
    gram[i][j] = value
    if mirror:
        gram[j][i] = value
    return replace(honest, gram=tuple(map(tuple, gram)))


@pytest.mark.parametrize(
    ("statistics", "reason"),
    [
        (SufficientStatistics(0, (), ()), "shape"),
        (SufficientStatistics(1, ((1,),), (1,)), "shape"),
        (replace(some_statistics(), rows=61), "count the rows"),
        (replace(some_statistics(), moment=(10**9, *some_statistics().moment[1:])), "clips"),
        (edited(1, 1, -1), "clips"),
        (edited(1, 1, 60 * (3 << F) ** 2 + 1), "clips"),
        (edited(1, 2, some_statistics().gram[1][2] + 1, mirror=False), "matrix of squares"),
        (edited(1, 2, 60 * (3 << F) ** 2), "matrix of squares"),
        (edited(3, 4, -some_statistics().gram[3][4] - 1), "matrix of squares|negative eigenvalue"),
    ],
)
def test_check_statistics__impossible_for_the_specification__is_refused(statistics: SufficientStatistics, reason: str) -> None:
    with pytest.raises(StatisticsRefused, match=reason):
        check_statistics(statistics, SPECIFICATION)


def test_check_statistics__every_pair_plausible_but_not_positive__is_refused() -> None:
    wide = FeatureSpecification(
        tuple(Numeric(name, -BILLION, BILLION, -BILLION, BILLION, 0, BILLION) for name in "abc"), Label("y", ("1",), ("0",)), 1
    )
    n = 10
    gram = ((40, 0, 0, 0), (0, 40, -30, -30), (0, -30, 40, -30), (0, -30, -30, 40))

    with pytest.raises(StatisticsRefused, match="negative eigenvalue"):
        check_statistics(SufficientStatistics(n, gram, (0, 0, 0, 0)), wide)


@given(
    st.lists(st.tuples(st.integers(-(2**14), 2**14), st.integers(-(2**60), 2**60)), min_size=1, max_size=5),
    st.integers(1, LARGEST_STEP),
)
@settings(deadline=None)
def test_descend__any_gradient__is_the_exact_step_rounded_and_clamped(pairs: list[tuple[int, int]], step: int) -> None:
    weights, gradient = [a for a, _ in pairs], [b for _, b in pairs]
    moved = descend(weights, gradient, step, BOUNDS)

    for before, slope, after in zip(weights, gradient, moved, strict=True):
        wish: Fraction = before - Fraction(step * slope, 1 << (STEP_BITS + BOUNDS.matrix_bits))
        assert abs(after) <= BOUNDS.weight_limit
        assert abs(after - max(Fraction(-BOUNDS.weight_limit), min(Fraction(BOUNDS.weight_limit), wish))) <= Fraction(1, 2)


def test_descend__many_rounds__follows_float64() -> None:
    fine = replace(BOUNDS, weight_bits=24, matrix_bits=24)
    generator = np.random.default_rng(3)
    rows: list[Row] = [
        (float(a), float(b), "xy"[i % 2], int(a > 0)) for i, (a, b) in enumerate(generator.normal(size=(200, 2)).clip(-5, 5))
    ]
    x, y = matrix(rows)
    statistics = accumulate([(x, y)], D)
    step = step_size(statistics, F)
    weights = initial_weights(int(y.sum()), len(y), D, fine)
    start = np.array(weights) / 2.0**24
    for _ in range(30):
        weights = descend(weights, gradient_map(statistics, len(y), F, fine).at(weights), step, fine)
    path = descend_float64(x / 2.0**F, y.astype(np.float64), start, step / 2.0**STEP_BITS, 30)

    assert np.abs(np.array(weights) / 2.0**24 - path[-1]).max() < 1e-5
    assert len(path) == 30


def test_step_size__known_matrix__is_one_over_one_point_two_lambda() -> None:
    statistics = SufficientStatistics(10, ((10 << 2 * F, 0), (0, 50 << 2 * F)), (0, 0))

    assert step_size(statistics, F) == int(2**STEP_BITS / (1.2 * 5))


def test_initial_weights__validation_rows__are_zero_but_the_base_rate() -> None:
    assert initial_weights(1, 4, 3, BOUNDS) == [1 << (BOUNDS.weight_bits - 2), 0, 0]


@pytest.mark.parametrize(("positives", "rows", "dimension"), [(2, 1, 3), (0, 0, 3), (-1, 3, 3), (1, 3, 0), (1, 3, 1025)])
def test_initial_weights__impossible_counts__are_refused(positives: int, rows: int, dimension: int) -> None:
    with pytest.raises(Refused):
        initial_weights(positives, rows, dimension, BOUNDS)


@pytest.mark.parametrize("change", [{"weight_bits": 0}, {"matrix_bits": 49}, {"largest_weight": 0}, {"largest_row_sum": 2**31}])
def test_bounds__outside_their_ranges__are_refused(change: dict[str, int]) -> None:
    with pytest.raises(BoundsRefused):
        replace(BOUNDS, **change)


def test_bounds_from_plain__of_to_plain__is_the_same() -> None:
    assert FixedPointBounds.from_plain(BOUNDS.to_plain()) == BOUNDS
    with pytest.raises(Malformed):
        FixedPointBounds.from_plain({**BOUNDS.to_plain(), "slack": 1})
