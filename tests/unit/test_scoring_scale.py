"""The scoring scale: every honest score fits t bits with its sign, at the very edge of the bound, and roundings are those of training."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import specification

from hessian.learning.columns import Category, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification, coarsened
from hessian.learning.metrics import scores
from hessian.learning.plain import BILLION, ShapeRefused
from hessian.learning.scoring import ScaleRefused, ScoringScale, scale_for

SPEC = specification()
WEIGHT_BITS = 24

weights_of_five = st.lists(st.integers(-4 << WEIGHT_BITS, 4 << WEIGHT_BITS), min_size=5, max_size=5)
incomes, ages = st.integers(0, 100_000), st.integers(0, 150)


def columns(incomes: list[int], ages: list[int], regions: list[str]) -> dict[str, list[str]]:
    return {"income": list(map(str, incomes)), "age": list(map(str, ages)), "region": regions}


@settings(deadline=None)
@given(weights_of_five, st.lists(st.tuples(incomes, ages, st.sampled_from(["N", "S"])), min_size=1, max_size=8), st.integers(20, 40))
def test_scale_for__any_weights_and_any_row__the_score_fits_t_bits(
    weights: list[int], rows: list[tuple[int, int, str]], blinding_bits: int
) -> None:
    scale = scale_for(SPEC, weights, WEIGHT_BITS, blinding_bits=blinding_bits)
    scale.check_against(SPEC)
    x = scale.features(SPEC, SPEC.design(columns(*map(list, zip(*rows, strict=True)))))
    assert all(abs(score) < scale.score_limit for score in scores(scale.weights(weights, WEIGHT_BITS), x))


@settings(deadline=None)
@given(weights_of_five, st.tuples(incomes, ages, st.sampled_from(["N", "S"])))
def test_scale_for__any_row__the_score_is_near_the_fine_one(weights: list[int], row: tuple[int, int, str]) -> None:
    scale = scale_for(SPEC, weights, WEIGHT_BITS)
    design = SPEC.design(columns([row[0]], [row[1]], [row[2]]))
    fine = scores(weights, design)[0] / 2 ** (WEIGHT_BITS + SPEC.feature_bits)
    coarse = scores(scale.weights(weights, WEIGHT_BITS), scale.features(SPEC, design))[0] / 2**scale.score_bits
    bound = sum(map(abs, weights)) / 2 ** (WEIGHT_BITS + scale.feature_bits) + SPEC.largest_quantised_norm / 2 ** (
        SPEC.feature_bits + scale.weight_bits
    )
    assert abs(fine - coarse) <= bound


def test_largest_norm_at__every_scale__is_reached_by_a_row_and_exceeded_by_none() -> None:
    corners = columns(*map(list, zip(*product([0, 10_000, 100_000], [0, 18, 90, 150], ["N", "S"]), strict=True)))
    design = SPEC.design(corners)
    for bits in range(1, SPEC.feature_bits + 1):
        norms = np.abs(coarsened(design, SPEC.feature_bits - bits)).sum(axis=1)
        assert norms.max() == SPEC.largest_norm_at(bits)
    assert SPEC.largest_norm_at(SPEC.feature_bits) == SPEC.largest_quantised_norm


def test_check__at_the_edge_of_the_bound__the_extreme_score_fits_and_one_more_is_refused() -> None:
    """One feature whose largest norm is a power of two less one: L1·W_s = 2^(t−1) − 1 is the largest product there can be."""
    spec = FeatureSpecification((Numeric("a", 0, 2 * BILLION, 0, 2 * BILLION, 0, BILLION),), Label("y", ("1",), ("0",)), feature_bits=4)
    norm = spec.largest_norm_at(4)
    assert norm == (1 + 2) << 4
    largest = (2**31 - 1) // norm
    edge = ScoringScale(4, 30, largest)
    edge.check_against(spec)
    x = edge.features(spec, spec.design({"a": ["2"]}))
    [high], [low] = scores([largest] * 2, x), scores([-largest] * 2, x)
    assert high == -low == norm * largest < edge.score_limit
    assert norm * (largest + 1) >= edge.score_limit
    with pytest.raises(ScaleRefused, match="32 bits"):
        ScoringScale(4, 30, largest + 1).check_against(spec)


def test_largest_weight__any_weights__is_a_power_of_two_that_covers_them() -> None:
    for weights in ([0] * 5, [1, 0, 0, 0, 0], [-(3 << 22), 5, 0, 0, 0], [1 << 24] * 5):
        scale = scale_for(SPEC, weights, WEIGHT_BITS)
        rounded = scale.weights(weights, WEIGHT_BITS)
        assert scale.largest_weight & (scale.largest_weight - 1) == 0
        assert max(map(abs, rounded)) <= scale.largest_weight < 2 * max(1, *map(abs, rounded))


def test_weights__beyond_the_published_bound__are_refused() -> None:
    scale = scale_for(SPEC, [1 << 20] * 5, WEIGHT_BITS)
    with pytest.raises(ScaleRefused, match="larger"):
        scale.weights([1 << 23, 0, 0, 0, 0], WEIGHT_BITS)


@pytest.mark.parametrize("bits", [0, 7, 41, 64])
def test_scale__blinding_bits_out_of_range__are_refused(bits: int) -> None:
    with pytest.raises(ScaleRefused, match="between 8 and 40"):
        ScoringScale(8, 16, 1 << 4, bits)
    plain = ScoringScale(8, 16, 1 << 4).to_plain() | {"blinding_bits": bits}
    with pytest.raises((ScaleRefused, ShapeRefused)):
        ScoringScale.from_plain(plain)


@pytest.mark.parametrize(
    "change", [{"feature_bits": 0}, {"feature_bits": 25}, {"weight_bits": 49}, {"largest_weight": 0}, {"largest_weight": 2**31}]
)
def test_scale__a_number_out_of_range__is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ScaleRefused):
        replace(ScoringScale(8, 16, 1 << 4), **change)


def test_check__finer_than_the_features__is_refused() -> None:
    with pytest.raises(ScaleRefused, match="finer"):
        ScoringScale(SPEC.feature_bits + 1, 4, 1, 40).check_against(SPEC)


def test_scale_for__a_specification_too_wide_for_t__is_refused() -> None:
    wide = FeatureSpecification(
        tuple(Category(f"c{i}", (Level("x", ("x",), 0, BILLION), Level("other", (), 0, BILLION))) for i in range(200)),
        Label("y", ("1",), ("0",)),
    )
    with pytest.raises(ScaleRefused, match="more blinding bits"):
        scale_for(wide, [1 << 24] * wide.dimension, WEIGHT_BITS, blinding_bits=8)


def test_from_plain__of_to_plain__is_the_same_scale() -> None:
    scale = scale_for(SPEC, [1 << 22] * 5, WEIGHT_BITS)
    assert ScoringScale.from_plain(scale.to_plain()) == scale
    with pytest.raises(ShapeRefused):
        ScoringScale.from_plain({**scale.to_plain(), "more": 1})
