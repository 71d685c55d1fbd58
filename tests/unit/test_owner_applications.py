"""A borrower's features at the API's edge: what is said of wrong ones, and when two applications are of the same borrower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_model import specification
from small_serving import POLICY

from owner_api.applications.deployments import policy_in_words
from owner_api.applications.features import FeaturesRefused, canonical_features, fingerprints, is_same_set

KEY = b"k" * 32
GOOD: dict[str, Any] = {"income": 4200.5, "age": 33, "region": "N"}
VALUES = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=8)


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
def test_same_set__moved_or_with_a_field_more_or_less__is_recognised(values: list[str], more: list[str], seed: Any) -> None:
    moved = [*values, *more]
    seed.shuffle(moved)
    assert is_same_set(fingerprints(KEY, values), fingerprints(KEY, moved))
    assert is_same_set(fingerprints(KEY, moved), fingerprints(KEY, values))


@given(values=VALUES)
def test_same_set__another_value_or_another_key__is_another(values: list[str]) -> None:
    own = fingerprints(KEY, values)
    assert not is_same_set(own, fingerprints(KEY, [*values[1:], values[0] + "1" + values[0]]))
    assert not is_same_set(own, fingerprints(b"l" * 32, values))
    assert not is_same_set(own, b"")


def test_policy_in_words__each_figure__is_said_as_people_say_it() -> None:
    words = " ".join(policy_in_words(POLICY, 32))
    for part in ("at most 25.00 %", "24.00 %", "3.00 %", "2.00 %", "60.00 %", "0.50 %", "1 day;", "30 days", "33 bits", "reasons"):
        assert part in words
    other = " ".join(policy_in_words(replace(POLICY, quote_valid_seconds=90, quote_period_seconds=7_200, reasons=()), 8))
    assert all(part in other for part in ("90 seconds", "2 hours", "9 bits"))
    assert "reasons" not in other
