"""The owner's policy: each default of PROTOCOL §4 objects on its own, at its edge."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from hessian.cohorts.policy import CohortFacts, LineageRelease, ModelFacts, OwnerPolicy, judge_cohort, judge_lineage, judge_model
from hessian.identifiers import Address

POLICY = OwnerPolicy()
WINDOWS = (("submit", 3600), ("accept", 3600), ("unlock", 3600), ("evaluate", 3600))
MODEL = ModelFacts(cohort_size=5, windows=WINDOWS, certificate_valid=True)


def members(*rows: int) -> tuple[tuple[Address, int], ...]:
    return tuple((Address(f"0x{place:040x}"), count) for place, count in enumerate(rows, start=1))


COHORT = CohortFacts(cohort_size=5, dimension=42, members=members(168, 168, 168, 168, 168))


def test_judge_model__defaults_met__has_no_objection() -> None:
    assert judge_model(POLICY, MODEL) == []


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (replace(MODEL, cohort_size=4), "4 members"),
        (replace(MODEL, certificate_valid=False), "certificate"),
        (replace(MODEL, windows=(*WINDOWS[:2], ("unlock", 1799), WINDOWS[3])), "unlock window of 1799 s"),
    ],
)
def test_judge_model__one_default_broken__is_the_one_objection(facts: ModelFacts, word: str) -> None:
    (objection,) = judge_model(POLICY, facts)

    assert word in objection


def test_judge_model__everything_broken__lists_every_objection() -> None:
    facts = ModelFacts(cohort_size=2, windows=(("submit", 1), ("unlock", 2)), certificate_valid=False)

    assert len(judge_model(POLICY, facts)) == 4


def test_judge_model__cohort_of_one__needs_the_confirmation_that_names_the_leak() -> None:
    (objection,) = judge_model(POLICY, replace(MODEL, cohort_size=1))

    assert "confirm" in objection
    assert judge_model(POLICY, replace(MODEL, cohort_size=1), single_confirmed=True) == []
    assert judge_model(POLICY, replace(MODEL, cohort_size=2), single_confirmed=True) != []


def test_judge_cohort__rows_and_shares_at_the_edge__has_no_objection() -> None:
    assert judge_cohort(POLICY, COHORT) == []
    assert judge_cohort(POLICY, replace(COHORT, members=members(420, 105, 105, 105, 105))) == []


def test_judge_cohort__one_row_too_few__objects() -> None:
    (objection,) = judge_cohort(POLICY, replace(COHORT, members=members(167, 168, 168, 168, 168)))

    assert "839 rows" in objection


def test_judge_cohort__one_member_above_half__objects() -> None:
    (objection,) = judge_cohort(POLICY, replace(COHORT, members=members(421, 105, 105, 105, 104)))

    assert "421 of the cohort's 840 rows" in objection


def test_judge_cohort__not_full_yet__leaves_rows_and_shares_for_later() -> None:
    assert judge_cohort(POLICY, replace(COHORT, members=members(1, 2))) == []


def test_judge_cohort__of_one_member__is_judged_by_its_rows_alone() -> None:
    assert judge_cohort(POLICY, CohortFacts(1, 42, members(840))) == []
    assert len(judge_cohort(POLICY, CohortFacts(1, 42, members(839)))) == 1


def test_judge_cohort__stranger_on_an_allow_list__objects_even_before_it_is_full() -> None:
    policy = replace(POLICY, allowed_members=frozenset(account for account, _ in members(1, 1)))

    assert judge_cohort(policy, replace(COHORT, members=members(500, 500))) == []
    (objection,) = judge_cohort(policy, replace(COHORT, members=members(500, 500, 500)))
    assert f"0x{3:040x}" in objection


def test_policy__its_own_limits__replace_the_defaults() -> None:
    strict = OwnerPolicy(minimum_members=6, rows_per_feature=21, largest_share=Fraction(1, 6), minimum_window=3601)

    assert len(judge_model(strict, MODEL)) == 5
    assert len(judge_cohort(strict, COHORT)) == 2


RELEASE = LineageRelease(chain_id=1, contract=Address("0x" + "a" * 40), cohort_id=7, requires_privacy=False)


def test_judge_lineage__first_cohort_or_further_rounds_of_it__has_no_objection() -> None:
    assert judge_lineage([], RELEASE) == []
    assert judge_lineage([RELEASE, RELEASE], RELEASE) == []


@pytest.mark.parametrize("change", [{"cohort_id": 8}, {"chain_id": 2}, {"contract": Address("0x" + "b" * 40)}])
def test_judge_lineage__second_cohort_anywhere__objects(change: dict[str, object]) -> None:
    other = replace(RELEASE, **change)  # type: ignore[arg-type]  # the parameters are single fields of the dataclass

    assert len(judge_lineage([RELEASE], other)) == 1


@pytest.mark.parametrize(("earlier", "candidate", "objections"), [(True, True, 0), (True, False, 1), (False, True, 1)])
def test_judge_lineage__second_cohort_with_differential_privacy__needs_it_of_both(earlier: bool, candidate: bool, objections: int) -> None:
    first, second = replace(RELEASE, requires_privacy=earlier), replace(RELEASE, cohort_id=8, requires_privacy=candidate)

    assert len(judge_lineage([first], second)) == objections
