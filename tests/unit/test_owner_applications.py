"""A borrower's features at the API's edge: what is said of wrong ones, and when two applications are of the same borrower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_model import specification
from small_serving import POLICY

from hessian.learning.columns import Category, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.plain import BILLION
from owner_api.applications.deployments import policy_in_words
from owner_api.applications.features import FeaturesRefused, canonical_features, fingerprints, is_same_set

KEY = b"k" * 32
GOOD: dict[str, Any] = {"income": 4200.5, "age": 33, "region": "N"}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.lists(TEXTS, min_size=1, max_size=8)
LEVELS = (Level("first", ("first",), BILLION // 2, BILLION), Level("other", (), BILLION // 2, BILLION))
LABEL = Label("Class", ("bad",), ("good",))


def prints(values: list[str], key: bytes = KEY) -> bytes:
    """Of columns that take any text."""
    columns = tuple(Category(f"column {place}", LEVELS) for place in range(len(values)))
    given = {column.name: value for column, value in zip(columns, values, strict=True)}
    return fingerprints(key, FeatureSpecification(features=columns, label=LABEL), given)


def of_borrower(missing: tuple[str, ...], dummies: dict[str, str] | None = None) -> bytes:
    """One borrower, three of whose five numbers are missing, as a model asks for it that spells that in its own way."""
    top, scale = 9_999 * BILLION, 1_000 * BILLION
    numbers = tuple(Numeric(name, 0, top, 0, top, 0, scale, missing_values=missing) for name in ("a", "b", "c", "d", "e"))
    others = tuple(Category(name, LEVELS) for name in dummies or {})
    model = FeatureSpecification(features=(*numbers, *others), label=LABEL)
    given = {"a": 1250, "b": 36, "c": None, "d": None, "e": None, **(dummies or {})}
    return fingerprints(KEY, model, canonical_features(model, given))


def test_canonical_features__numbers_written_otherwise__are_the_same() -> None:
    written: list[dict[str, Any]] = [{"income": 4200.5, "age": 33}, {"income": "4200.50", "age": "33.0"}, {"income": 4.2005e3, "age": 33.0}]
    assert {str(canonical_features(specification(), GOOD | one)) for one in written} == {"{'income': '4200.5', 'age': '33', 'region': 'N'}"}


def test_canonical_features__several_wrong_fields__are_all_named_and_no_value_is() -> None:
    with pytest.raises(FeaturesRefused) as refusal:
        canonical_features(specification(), {"income": 7351975, "age": "canary", "canary\u202e": 1, "canary": 2, "x" * 81: 3})
    assert {error["where"] for error in refusal.value.errors} == {
        "features.income",
        "features.age",
        "features.region",
        "features.canary",
        "features",
    }
    assert "3 fields are unknown" in refusal.value.sentence
    assert all(name in refusal.value.sentence for name in ("income", "age", "region"))
    assert not [needle for needle in ("canary", "7351975", "xxx") if needle in refusal.value.sentence]
    assert "7351975" not in str(refusal.value.errors)


@given(values=VALUES, more=VALUES, seed=st.randoms(use_true_random=False))
def test_same_set__moved_or_with_some_fields_more_or_less__is_recognised(values: list[str], more: list[str], seed: Any) -> None:
    moved = [*values, *more[: len(values)]]
    seed.shuffle(moved)
    assert is_same_set(prints(values), prints(moved))
    assert is_same_set(prints(moved), prints(values))


@given(values=VALUES, changed=VALUES)
def test_same_set__fewer_than_half_of_the_values_are_shared__is_another(values: list[str], changed: list[str]) -> None:
    own, half = [f"own {value}" for value in values], (len(values) - 1) // 2
    other = [*own[:half], *(f"other {value}" for value in (changed * len(values))[: len(values) - half])]
    assert not is_same_set(prints(own), prints(other))
    assert not is_same_set(prints(own), prints(own, b"l" * 32))
    assert not is_same_set(prints(own), b"")


def test_same_set__one_value_of_a_large_model_was_all_of_a_small_one__is_another() -> None:
    assert not is_same_set(prints(["36"]), prints(["36", *(str(number) for number in range(100, 141))]))


@pytest.mark.parametrize("missing", [("", "NA"), ("NA",), ("n/a", "none")])
def test_same_set__missing_values_spelled_otherwise_or_a_column_of_no_use_required__is_recognised(missing: tuple[str, ...]) -> None:
    assert is_same_set(of_borrower(("",)), of_borrower(missing))
    assert is_same_set(of_borrower(("",), {"batch": "one"}), of_borrower(missing, {"batch": "two"}))


def test_policy_in_words__each_figure__is_said_as_people_say_it() -> None:
    words = " ".join(policy_in_words(POLICY, 32))
    for part in ("at most 25.00 %", "24.00 %", "3.00 %", "2.00 %", "60.00 %", "0.50 %", "1 day;", "30 days", "33 bits", "reasons"):
        assert part in words
    other = " ".join(policy_in_words(replace(POLICY, quote_valid_seconds=90, quote_period_seconds=7_200, reasons=()), 8))
    assert all(part in other for part in ("90 seconds", "2 hours", "9 bits"))
    assert "reasons" not in other
