"""A borrower's features: one canonical form, every problem named at once, values never repeated, encoding exactly as in training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import specification
from small_serving import APPLICANT

from hessian.learning.application import ApplicationRefused, check_canonical, encode_features, read_features
from hessian.learning.columns import Category, Indicator, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.plain import BILLION
from hessian.learning.scoring import ScoringScale, scale_for

SPEC = specification()
FINE = ScoringScale(SPEC.feature_bits, 10, 1, 40)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("4200.50", "4200.5"),
        (4200.5, "4200.5"),
        (4200, "4200"),
        ("004200", "4200"),
        ("0.10", "0.1"),
        (1e3, "1000"),
        (0.25, "0.25"),
        ("-0", "0"),
    ],
)
def test_read__one_number_in_any_spelling__has_one_form(value: object, canonical: str) -> None:
    assert read_features(SPEC, APPLICANT | {"income": value})["income"] == canonical


@settings(deadline=None)
@given(st.integers(0, 100_000 * BILLION), st.integers(0, 150), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_read__of_what_was_read__is_the_same(income: int, age: int, region: str) -> None:
    text = f"{income // BILLION}.{income % BILLION:09d}"
    features = read_features(SPEC, {"income": text, "age": age, "region": region})
    assert read_features(SPEC, features) == features
    check_canonical(SPEC, features)
    assert read_features(SPEC, json.loads(json.dumps(features))) == features


def test_encode__canonical_features__are_encoded_as_a_row_of_training_would_be() -> None:
    features = read_features(SPEC, APPLICANT)
    row = SPEC.design({name: [text] for name, text in features.items()})[0]
    assert encode_features(FINE, SPEC, features) == row.tolist()
    coarse = ScoringScale(SPEC.feature_bits - 6, 10, 1, 40)
    assert encode_features(coarse, SPEC, features) == np.floor(row / 64 + 0.5).astype(int).tolist()


def test_encode__beyond_a_clip__is_clipped_as_in_training() -> None:
    at, beyond = (encode_features(FINE, SPEC, read_features(SPEC, APPLICANT | {"income": income})) for income in ("10000", "99999"))
    assert at == beyond


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"income": "-1"}, "income", "must lie between 0 and 100000"),
        ({"income": "100000.000000001"}, "income", "must lie between 0 and 100000"),
        ({"income": 10**30}, "income", "decimal number"),
        ({"income": 10**300}, "income", "out of range"),
        ({"income": "12.0000000001"}, "income", "9 digits"),
        ({"income": "1e3"}, "income", "no exponent"),
        ({"income": "٣"}, "income", "decimal number"),
        ({"income": ""}, "income", "decimal number"),
        ({"income": float("nan")}, "income", "decimal number"),
        ({"income": float("inf")}, "income", "decimal number"),
        ({"income": True}, "income", "must be text or a number"),
        ({"income": None}, "income", "must be text or a number"),
        ({"income": ["1"]}, "income", "must be text or a number"),
        ({"income": "1" * 201}, "income", "characters"),
        ({"region": "\x00"}, "region", "control character"),
        ({"region": "\ud800"}, "region", "surrogate"),
        ({"Class": "good"}, "Class", "is not a field"),
        ({"salary": 1}, "salary", "is not a field"),
    ],
)
def test_read__a_field_that_does_not_fit__is_named_with_what_to_change(change: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(ApplicationRefused) as refused:
        read_features(SPEC, APPLICANT | change)
    assert list(refused.value.problems) == [field]
    assert says in refused.value.problems[field]
    assert f"{field}: " in refused.value.sentence


def test_read__several_problems__are_all_named_and_no_value_is_repeated() -> None:
    with pytest.raises(ApplicationRefused) as refused:
        read_features(SPEC, {"income": "987654321", "region": 5, "colour": "secret-value"})
    assert set(refused.value.problems) == {"income", "age", "colour"}
    assert "987654321" not in refused.value.sentence
    assert "secret-value" not in refused.value.sentence


def test_read__a_category_without_other__lists_what_is_known() -> None:
    levels = tuple(Level(f"l{i}", (f"v{i}",), 0, BILLION) for i in range(20))
    spec = FeatureSpecification((Category("grade", levels), Numeric("a", 0, BILLION, 0, BILLION, 0, BILLION)), Label("y", ("1",), ("0",)))
    with pytest.raises(ApplicationRefused, match=r"must be one of 'v0', 'v1'.*or 8 more"):
        read_features(spec, {"grade": "w", "a": 0})
    assert read_features(SPEC, APPLICANT | {"region": "elsewhere"})["region"] == "elsewhere"


@pytest.mark.parametrize("change", [{"income": "4200.50"}, {"age": "033"}])
def test_check_canonical__another_spelling__is_refused(change: dict[str, str]) -> None:
    features = read_features(SPEC, APPLICANT) | change
    with pytest.raises(ApplicationRefused, match="canonical"):
        check_canonical(SPEC, features)


def test_read_features__a_number_that_may_be_missing__has_one_canonical_form() -> None:
    specification = FeatureSpecification(
        (Numeric("rate", 0, 100 * BILLION, 0, 40 * BILLION, 10 * BILLION, BILLION, ("NA", ""), Indicator(0, BILLION), "%"),),
        Label("bad", ("1",), ("0",)),
        8,
    )
    scale = scale_for(specification, [0, 1 << 20, 1 << 20], 24)

    assert [read_features(specification, {"rate": value})["rate"] for value in (None, "NA", "")] == ["NA", "NA", "NA"]
    assert [read_features(specification, {"rate": value})["rate"] for value in ("13.50%", "13.5", 13.5)] == ["13.5"] * 3
    assert encode_features(scale, specification, {"rate": "NA"})[2] > 0 == encode_features(scale, specification, {"rate": "13.5"})[2]
