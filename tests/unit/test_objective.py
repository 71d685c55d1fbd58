"""Both losses, the ridge term and composed local steps: against fractions and explicit steps, and their bounds at the edge."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.learning.affine import (
    AffineMap,
    FixedPointBounds,
    bounds_for,
    curvature,
    doubled_offset,
    gradient_map,
    initial_weights,
    settle,
    step_size,
)
from hessian.learning.columns import Category, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification, IntMatrix
from hessian.learning.local_steps import member_map
from hessian.learning.metrics import validation_error
from hessian.learning.objective import LARGEST_RIDGE, STEP_BITS, Objective, ObjectiveRefused
from hessian.learning.plain import BILLION
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics, accumulate
from hessian.paillier.packing import pack, slot_layout, unpack

F = 8
SPECIFICATION = FeatureSpecification(
    (
        Numeric("a", -5 * BILLION, 5 * BILLION, -3 * BILLION, 3 * BILLION, 0, BILLION),
        Category("c", (Level("x", ("x",), BILLION // 4, BILLION), Level("y", ("y",), 3 * BILLION // 4, BILLION))),
    ),
    Label("bad", ("1",), ("0",)),
    F,
)
D = SPECIFICATION.dimension
STEP = 1 << 29

objectives = st.builds(Objective, loss=st.sampled_from(["squared", "logistic-taylor1"]), ridge=st.sampled_from([0, 1 << 28, LARGEST_RIDGE]))
many_steps = st.builds(replace, objectives, local_steps=st.sampled_from([2, 5, 100]))
one_row = st.tuples(st.sampled_from([-3.0, -0.5, 0.25, 3.0]), st.sampled_from("xy"), st.integers(0, 1))
members_rows = st.lists(st.lists(one_row, min_size=1, max_size=6), min_size=1, max_size=4)


def bounds_of(objective: Objective) -> FixedPointBounds:
    return bounds_for(SPECIFICATION, weight_bits=12, matrix_bits=10, largest_weight=4, objective=objective, step=STEP)


def matrix(rows: list[tuple[float, str, int]]) -> tuple[IntMatrix, IntMatrix]:
    return SPECIFICATION.matrix({"a": [repr(a) for a, _, _ in rows], "c": [c for _, c, _ in rows], "bad": [str(y) for _, _, y in rows]})


def statistics_of(rows: list[tuple[float, str, int]]) -> SufficientStatistics:
    return accumulate([matrix(rows)], D)


def contributions(members: list[list[tuple[float, str, int]]], objective: Objective) -> list[AffineMap]:
    total = sum(map(len, members))
    return [member_map(statistics_of(rows), total, F, bounds_of(objective), objective, STEP) for rows in members]


def summed(maps: list[AffineMap], weights: list[int]) -> list[int]:
    return [sum(entries) for entries in zip(*(each.at(weights) for each in maps), strict=True)]


@given(members_rows, objectives, st.lists(st.integers(-(4 << 12), 4 << 12), min_size=D, max_size=D))
@settings(deadline=None)
def test_gradient_map__either_loss_with_ridge__is_the_derivative_of_the_mean_loss(
    members: list[list[tuple[float, str, int]]], objective: Objective, weights: list[int]
) -> None:
    bounds = bounds_of(objective)
    x, y = matrix([row for rows in members for row in rows])
    real = [[Fraction(entry, 1 << F) for entry in row] for row in x.tolist()]
    w = [Fraction(weight, 1 << bounds.weight_bits) for weight in weights]
    alpha, centre = (Fraction(1, 4), Fraction(1, 2)) if objective.is_logistic else (Fraction(1), Fraction(0))
    slopes = [centre + alpha * sum(a * b for a, b in zip(row, w, strict=True)) - label for row, label in zip(real, y.tolist(), strict=True)]
    pull = [Fraction(0), *[Fraction(objective.ridge, 1 << STEP_BITS) * entry for entry in w[1:]]]
    exact = [sum(row[j] * slope for row, slope in zip(real, slopes, strict=True)) / len(real) + pull[j] for j in range(D)]
    rounding = Fraction(len(members) * (D * bounds.weight_limit + 1), 2)

    for entry, derivative in zip(summed(contributions(members, objective), weights), exact, strict=True):
        assert abs(entry - derivative * (1 << bounds.gradient_bits)) <= rounding


@given(members_rows, st.one_of(objectives, many_steps), st.lists(st.sampled_from([-(4 << 12), 4 << 12]), min_size=D, max_size=D))
@settings(deadline=None)
def test_slot_bound__any_objective_at_extreme_weights__packs_and_unpacks_unharmed(
    members: list[list[tuple[float, str, int]]], objective: Objective, weights: list[int]
) -> None:
    layout = slot_layout(1024, bound=bounds_of(objective).slot_bound(len(members), D))
    opened = summed(contributions(members, objective), weights)

    assert max(map(abs, opened)) <= layout.bound
    assert unpack(pack(opened, layout), layout, D) == opened


@given(st.lists(one_row, min_size=1, max_size=30), many_steps, st.lists(st.integers(-(4 << 20), 4 << 20), min_size=D, max_size=D))
@settings(deadline=None)
def test_member_map__several_local_steps__equals_taking_them_one_after_the_other(
    rows: list[tuple[float, str, int]], objective: Objective, weights: list[int]
) -> None:
    bounds = bounds_for(SPECIFICATION, weight_bits=20, matrix_bits=24, objective=objective, step=STEP)
    statistics = statistics_of(rows)
    values, vectors = np.linalg.eigh(curvature(statistics, F, objective))
    eta = STEP / 2.0**STEP_BITS
    projected = (vectors * np.clip(values, 0, 1 / eta)) @ vectors.T
    mean = np.array([float(entry) for entry in doubled_offset(statistics, F, objective)]) / (2 * len(rows) * 4.0**F)
    w = np.array(weights) / 2.0**20
    for _ in range(objective.local_steps):
        w = w - eta * (projected @ w - mean)

    opened = member_map(statistics, len(rows), F, bounds, objective, STEP).at(weights)
    assert np.abs(np.array([float(entry) for entry in opened]) / 2.0**44 - w).max() < 1e-4


def test_member_map__rows_that_break_the_published_bounds__are_refused() -> None:
    objective = Objective(local_steps=100)
    narrow = replace(bounds_of(objective), largest_row_sum=1)
    with pytest.raises(StatisticsRefused, match="bounds"):
        member_map(statistics_of([(3.0, "y", 1)] * 3), 3, F, narrow, objective, STEP)


@pytest.mark.parametrize("objective", [Objective(), Objective(local_steps=3)])
def test_member_map__more_rows_than_the_cohort_declared__is_refused(objective: Objective) -> None:
    with pytest.raises(StatisticsRefused):
        member_map(statistics_of([(3.0, "y", 1)] * 3), 2, F, bounds_of(objective), objective, STEP)


def test_validation_error__logistic_scores__measures_their_linear_probability() -> None:
    x, y = np.array([[4], [8]], dtype=np.int64), np.array([1, 0], dtype=np.int64)  # features ½ and 1 at three bits
    objective = Objective(loss="logistic-taylor1")
    # weight 1 at two bits: scores ½ and 1, predictions ½ + ½/4 and ½ + ¼
    assert validation_error([4], x, y, score_bits=5, objective=objective) == (10**9 * ((1 - 0.625) ** 2 + 0.75**2)) / 2


def test_initial_weights__logistic__predict_the_base_rate() -> None:
    objective = Objective(loss="logistic-taylor1")
    bounds = bounds_for(SPECIFICATION, objective=objective)
    start = initial_weights(1, 20, D, bounds, objective)
    one = 1 << bounds.weight_bits

    assert objective.prediction_quarters(start[0], one) / (4 * one) == pytest.approx(1 / 20, abs=2.0**-24)


def test_step_size__logistic_with_ridge__is_of_its_own_curvature() -> None:
    statistics = SufficientStatistics(10, ((10 << 2 * F, 0), (0, 50 << 2 * F)), (0, 0))
    objective = Objective(loss="logistic-taylor1", ridge=1 << STEP_BITS)

    assert step_size(statistics, F, objective) == int(2**STEP_BITS / (1.2 * (5 / 4 + 1)))


def test_settle__opened_weights__are_rounded_and_clamped() -> None:
    bounds = bounds_of(Objective(local_steps=2))
    opened = [(3 << 22) + (1 << 9), -(9 << 22)]

    assert settle(opened, bounds) == [(3 << 12) + 1, -bounds.weight_limit]


def test_gradient_map__squared_without_ridge__is_unchanged_by_naming_the_objective() -> None:
    statistics = statistics_of([(3.0, "y", 1), (-0.5, "x", 0)])
    assert gradient_map(statistics, 4, F, bounds_of(Objective()), Objective()) == gradient_map(statistics, 4, F, bounds_of(Objective()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinge"},
        {"loss": ""},
        {"local_steps": 0},
        {"local_steps": 10_001},
        {"ridge": -1},
        {"ridge": LARGEST_RIDGE + 1},
        {"method": "newton"},
        {"local_steps": 2, "method": "grid"},
    ],
)
def test_objective__outside_what_nodes_train__is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ObjectiveRefused):
        Objective(**wrong)  # type: ignore[arg-type]  # single fields of the dataclass


def test_objective_from_plain__of_to_plain__is_the_same() -> None:
    objective = Objective("logistic-taylor1", 7, 1, "conjugate-gradients")
    assert Objective.from_plain(objective.to_plain()) == objective
