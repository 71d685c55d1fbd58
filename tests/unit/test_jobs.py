"""Jobs: their states, the ways between them, and what a failure means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.jobs import (
    CRASH_LIMIT,
    FIRST_DELAY,
    LONGEST_DELAY,
    PRIORITY,
    TRANSITIONS,
    JobKind,
    JobSpec,
    JobState,
    Retry,
    Service,
    SetAside,
    delay,
    instead_of,
    judge,
    origins,
    priority_again,
)
from hessian.errors import (
    ChainDiverged,
    Conflict,
    DatabaseUnavailable,
    HessianError,
    IpfsUnavailable,
    Malformed,
    ServiceFailed,
    ServiceUnavailable,
)
from hessian.identifiers import Address, CohortId, ModelId, RoundId
from hessian.service.client import PeerRefused
from lender_api.requests.lookups import LookupRefused, QueryNotFound

MEMBER = Address("0x" + "11" * 20)


def spec(kind: JobKind = JobKind.CONTRIBUTE, **values: object) -> JobSpec:
    defaults: dict[str, object] = {"service": Service.OWNER, "model_id": ModelId(1), "cohort_id": CohortId(2), "round_id": RoundId(3)}
    return JobSpec(kind=kind, **{**defaults, **values})  # type: ignore[arg-type]  # any field by name


def test_transitions__every_state__is_covered_and_the_ends_are_ends() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state, targets in TRANSITIONS.items() if not targets} == {JobState.DONE, JobState.FOREIGN}


def test_origins__of_each_end__is_an_attempt_only() -> None:
    for end in (JobState.DONE, JobState.FOREIGN, JobState.SET_ASIDE):
        assert origins(end) == {JobState.DISPATCHED}


def test_origins__of_planned__includes_an_operators_second_chance() -> None:
    assert origins(JobState.PLANNED) == {JobState.DISPATCHED, JobState.SET_ASIDE}


def test_priority__every_kind__has_one() -> None:
    assert set(PRIORITY) == set(JobKind)


def test_priority_again__query_that_nobody_has__is_below_every_other_neighbours_work() -> None:
    again = priority_again(JobKind.ANSWER_SCORE, ServiceUnavailable("as the test wants it", QueryNotFound.__name__))
    assert again is not None
    assert again < min(priority for kind, priority in PRIORITY.items() if kind is not JobKind.ANNOUNCE_MODEL)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (JobKind.ANSWER_SCORE, ServiceUnavailable("others are looked up", LookupRefused.__name__)),
        (JobKind.ANSWER_SCORE, ServiceUnavailable("no database", DatabaseUnavailable.__name__)),
        (JobKind.ANSWER_SCORE, ServiceUnavailable("lender-api does not answer")),
        (JobKind.ANSWER_SCORE, ServiceFailed("lender-api answered 500 Violated")),
        (JobKind.ANSWER_SCORE, DatabaseUnavailable()),
        (JobKind.EVALUATE_ROUND, ServiceUnavailable("of no lookup", QueryNotFound.__name__)),
    ],
)
def test_priority_again__anything_else__is_as_before(kind: JobKind, error: HessianError) -> None:
    assert priority_again(kind, error) is None


def test_business_key__each_part_that_differs__makes_another_key() -> None:
    variants = [
        spec(),
        spec(kind=JobKind.UNLOCK),
        spec(round_id=RoundId(4)),
        spec(member=MEMBER),
        spec(service=Service.LENDER),
        spec(occasion="accepting"),
        spec(round_id=None),
        spec(round_id=None, cohort_id=None),
    ]
    assert len({variant.business_key for variant in variants}) == len(variants)


def test_lock__same_round_and_member__is_shared_by_all_kinds() -> None:
    assert spec(member=MEMBER).lock == spec(JobKind.UNLOCK, member=MEMBER).lock == f"round-3:{MEMBER}"
    assert spec(member=MEMBER).lock != spec(member=Address("0x" + "22" * 20)).lock


def test_lock__what_the_lender_does_next__does_not_wait_until_the_last_is_final() -> None:
    assert spec(JobKind.ACCEPT_SUBMISSIONS, service=Service.LENDER).lock != spec(JobKind.EVALUATE_ROUND, service=Service.LENDER).lock


def test_lock__leaving__does_not_wait_for_the_gradient_step() -> None:
    assert spec(JobKind.ABANDON, member=MEMBER).lock != spec(member=MEMBER).lock


def test_instead_of__contribution_set_aside__the_member_leaves_and_nothing_else_does() -> None:
    other = instead_of(spec(member=MEMBER))
    assert other is not None
    assert (other.kind, other.round_id, other.member) == (JobKind.ABANDON, spec().round_id, MEMBER)
    assert [kind for kind in JobKind if instead_of(spec(kind))] == [JobKind.CONTRIBUTE]


@pytest.mark.parametrize("error", [ServiceUnavailable("trainer does not answer"), IpfsUnavailable("no bytes")])
def test_judge__unavailable__is_tried_again_however_often(error: HessianError) -> None:
    verdict = judge(error, attempts=1000, crashes=CRASH_LIMIT - 1)
    assert verdict == Retry(LONGEST_DELAY, error.sentence)


@pytest.mark.parametrize(
    "error", [PeerRefused("owner-api", 409, "Conflict", "the policy objects"), Malformed("ragged"), Conflict("closed"), ChainDiverged()]
)
def test_judge__refused_or_violated__is_set_aside_with_the_reason(error: HessianError) -> None:
    verdict = judge(error, attempts=1, crashes=0)
    assert isinstance(verdict, SetAside)
    assert error.sentence in verdict.reason


@pytest.mark.parametrize("error", [ServiceFailed("trainer answered 500 JobCrashed: ended"), KeyError("secret"), ZeroDivisionError()])
def test_judge__crash__is_tried_a_few_times_then_set_aside(error: Exception) -> None:
    verdicts = [judge(error, attempts=crashes + 1, crashes=crashes) for crashes in range(CRASH_LIMIT)]
    assert all(isinstance(verdict, Retry) and verdict.is_crash for verdict in verdicts[:-1])
    assert isinstance(verdicts[-1], SetAside)
    assert f"failed {CRASH_LIMIT} times" in verdicts[-1].reason


def test_judge__foreign_exception__does_not_quote_it() -> None:
    verdict = judge(ValueError("row 17: income 41000"), attempts=1, crashes=0)
    assert "41000" not in verdict.reason
    assert "ValueError" in verdict.reason


@given(attempts=st.integers(0, 10**6))
def test_delay__any_number_of_attempts__grows_up_to_the_cap(attempts: int) -> None:
    assert FIRST_DELAY <= delay(attempts) <= delay(attempts + 1) <= LONGEST_DELAY
