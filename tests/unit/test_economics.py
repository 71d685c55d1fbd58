"""The arithmetic of the bounty: golden numbers shared with the contract's tests, and the promises of PROTOCOL §6 as properties."""

from __future__ import annotations

import importlib.util
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hessian.economics import SplitRefused, TermsRefused, escrow, progress, reward, split
from hessian.identifiers import ErrorUnits, Wei

FIXTURES = Path(__file__).parents[1] / "fixtures"
VECTORS: dict[str, list[dict[str, Any]]] = json.loads((FIXTURES / "economics_vectors.json").read_text(encoding="utf-8"))

money = st.integers(0, 2**128 - 1).map(Wei)
errors = st.integers(0, 2**64 - 1).map(ErrorUnits)
terms = st.tuples(money, errors, errors).filter(lambda t: t[1] != t[2]).map(lambda t: (t[0], max(t[1:]), min(t[1:])))
weights = st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=64)


def _terms(vector: dict[str, str]) -> tuple[Wei, ErrorUnits, ErrorUnits]:
    return Wei(int(vector["bounty"])), ErrorUnits(int(vector["initialError"])), ErrorUnits(int(vector["targetError"]))


def test_vectors__written_again__are_the_ones_on_disk() -> None:
    spec = importlib.util.spec_from_file_location("make_economics_vectors", FIXTURES / "make_economics_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["progress"])
def test_progress__golden_vector__agrees(vector: dict[str, str]) -> None:
    assert progress(*_terms(vector), ErrorUnits(int(vector["error"]))) == int(vector["progress"])


@pytest.mark.parametrize("vector", VECTORS["reward"])
def test_reward__golden_vector__agrees(vector: dict[str, str]) -> None:
    best, new = ErrorUnits(int(vector["bestError"])), ErrorUnits(int(vector["newError"]))
    assert reward(*_terms(vector), best, new) == int(vector["reward"])


@pytest.mark.parametrize("vector", VECTORS["split"])
def test_split__golden_vector__agrees(vector: dict[str, Any]) -> None:
    assert split(Wei(int(vector["pool"])), [int(w) for w in vector["weights"]]) == [int(s) for s in vector["shares"]]


@given(terms, errors)
def test_progress__any_error__is_within_one_wei_below_linear(t: tuple[Wei, ErrorUnits, ErrorUnits], error: ErrorUnits) -> None:
    bounty, initial, target = t
    linear = Fraction(bounty * (initial - min(max(error, target), initial)), initial - target)
    assert 0 <= linear - progress(bounty, initial, target, error) < 1


@given(terms, st.lists(errors, max_size=12))
def test_reward__any_path__adds_up_to_the_progress_of_the_best_error(t: tuple[Wei, ErrorUnits, ErrorUnits], path: list[ErrorUnits]) -> None:
    bounty, initial, target = t
    best, earned = initial, 0
    for new in path:
        earned += reward(bounty, initial, target, best, new)
        best = min(best, new)
    assert earned == progress(bounty, initial, target, best) <= bounty


@given(terms)
def test_reward__target_reached_at_once__is_exactly_the_bounty(t: tuple[Wei, ErrorUnits, ErrorUnits]) -> None:
    bounty, initial, target = t
    assert reward(bounty, initial, target, initial, target) == bounty


@given(money, weights)
def test_split__any_weights__adds_up_exactly_and_within_one_wei(pool: Wei, given_weights: list[int]) -> None:
    shares = split(pool, given_weights)
    assert sum(shares) == pool
    for share, weight in zip(shares, given_weights, strict=True):
        assert abs(share - Fraction(pool * weight, sum(given_weights))) < 1


@given(money, money, st.integers(1, 2**32 - 1))
def test_escrow__any_terms__covers_the_bounty_and_every_base_fee(bounty: Wei, base_fee: Wei, rounds: int) -> None:
    assert escrow(bounty, base_fee, rounds) - bounty == base_fee * rounds


@pytest.mark.parametrize("target", [10, 11])
def test_progress__initial_error_not_above_the_target__is_refused(target: int) -> None:
    with pytest.raises(TermsRefused):
        progress(Wei(1), ErrorUnits(10), ErrorUnits(target), ErrorUnits(5))


@pytest.mark.parametrize(("pool", "bad"), [(1, []), (1, [1, 0]), (1, [3, -1]), (-1, [1])])
def test_split__nothing_to_split_by__is_refused(pool: int, bad: list[int]) -> None:
    with pytest.raises(SplitRefused):
        split(Wei(pool), bad)
