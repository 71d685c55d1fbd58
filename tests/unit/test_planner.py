"""The planner: what each event asks for, what it must not ask for, and that the fold behind it tells the contract's story."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.jobs import JobKind, JobSpec, Service
from coordinator.planner import plan, plan_deadlines, plan_retreats, superseded
from coordinator.projection import HistoryBroken, ModelView, fold
from hessian.chain import events
from hessian.chain.blocks import BlockHash, EventPlace, TransactionHash
from hessian.chain.events import RepositoryEvent
from hessian.chain.records import CreditReason, ModelState, RoundState
from hessian.identifiers import Address, BlockNumber, CohortId, Digest, ErrorUnits, ModelId, RoundId, Timestamp, Wei
from hessian.testing import valid_terms

START = Timestamp(1_000_000)
LENDER = Address("0x" + "aa" * 20)
DIGEST = Digest(b"d" * 32)
MODEL = ModelId(1)


def account(number: int) -> Address:
    return Address(f"0x{number:040x}")


@dataclass
class Story:
    """Tells events one after another, one block each, and keeps the view and the plans."""

    cohort_size: int = 2
    now: Timestamp = START
    block: int = 0
    model: ModelView | None = None
    planned: list[JobSpec] = field(default_factory=list)

    def tell(self, kind: type[RepositoryEvent], **values: Any) -> list[JobSpec]:
        """The jobs this event asks for."""
        self.block += 1
        place = EventPlace(BlockNumber(self.block), BlockHash(f"0x{self.block:064x}"), 0, TransactionHash("0x" + "00" * 32), self.now)
        event = kind(place=place, **values)
        self.model = fold(self.model, event)
        jobs = plan(event, self.model)
        self.planned += jobs
        return jobs

    @property
    def view(self) -> ModelView:
        assert self.model is not None
        return self.model

    def created(self, **changes: Any) -> Story:
        terms = valid_terms(START, cohort_size=self.cohort_size, **changes)
        self.tell(
            events.ModelCreated,
            model_id=MODEL,
            lender=LENDER,
            terms=terms,
            manifest_digest=DIGEST,
            weights_digest=DIGEST,
            forming_cohort_id=CohortId(1),
        )
        return self

    def joined(self, cohort_id: int, number: int) -> list[JobSpec]:
        member = account(number)
        return self.tell(
            events.MemberJoined, model_id=MODEL, cohort_id=CohortId(cohort_id), member=member, masking_key=b"k" * 32, rows=1000 + number
        )

    def sealed(self, cohort_id: int = 1) -> list[JobSpec]:
        for place in range(self.cohort_size):
            self.joined(cohort_id, 10 * cohort_id + place)
        values = {"members_hash": b"h" * 32, "total_rows": 2000, "next_cohort_id": CohortId(cohort_id + 1)}
        return self.tell(events.CohortSealed, model_id=MODEL, cohort_id=CohortId(cohort_id), **values)

    def opened(self, round_id: int = 1, cohort_id: int = 1) -> list[JobSpec]:
        values: dict[str, Any] = {"model_id": MODEL, "cohort_id": CohortId(cohort_id), "weights_digest": DIGEST}
        return self.tell(events.RoundOpened, round_id=RoundId(round_id), deadline=Timestamp(self.now + 60), **values)

    def members(self, cohort_id: int = 1) -> list[Address]:
        return [member.account for member in self.view.cohort(CohortId(cohort_id)).members]

    def submitted(self, round_id: int = 1, cohort_id: int = 1) -> list[JobSpec]:
        for index, member in enumerate(self.members(cohort_id)):
            self.tell(
                events.GradientSubmitted,
                round_id=RoundId(round_id),
                member=member,
                member_index=index,
                gradient_digest=DIGEST,
                unlock_commitment=b"u" * 32,
            )
        return self.tell(events.SubmissionsCompleted, round_id=RoundId(round_id), deadline=Timestamp(self.now + 60))

    def accepted(self, round_id: int = 1) -> list[JobSpec]:
        return self.tell(events.SubmissionsAccepted, round_id=RoundId(round_id), deadline=Timestamp(self.now + 60))

    def unlocked(self, round_id: int = 1, cohort_id: int = 1) -> list[JobSpec]:
        for index, member in enumerate(self.members(cohort_id)):
            self.tell(events.MemberUnlocked, round_id=RoundId(round_id), member=member, member_index=index, seed=b"s" * 32)
        return self.tell(events.UnlocksCompleted, round_id=RoundId(round_id), deadline=Timestamp(self.now + 60))

    def settled(
        self, round_id: int = 1, cohort_id: int = 1, state: ModelState = ModelState.OPEN, error: int = 220_000_000
    ) -> list[JobSpec]:
        return self.tell(
            events.RoundSettled,
            round_id=RoundId(round_id),
            model_id=MODEL,
            cohort_id=CohortId(cohort_id),
            new_error=ErrorUnits(error),
            new_weights_digest=Digest(b"w" * 32),
            report_digest=DIGEST,
            reward=Wei(5),
            pool=Wei(7),
            model_state=state,
        )

    def ended(self, kind: type[RepositoryEvent], round_id: int = 1, cohort_id: int = 1, **values: Any) -> list[JobSpec]:
        jobs = self.tell(kind, round_id=RoundId(round_id), model_id=MODEL, cohort_id=CohortId(cohort_id), **values)
        return jobs + self.tell(events.CohortClosed, model_id=MODEL, cohort_id=CohortId(cohort_id))


def kinds(jobs: list[JobSpec]) -> list[JobKind]:
    """Without the announcements, which come with most events."""
    return [job.kind for job in jobs if job.kind is not JobKind.ANNOUNCE_MODEL]


@pytest.fixture
def story() -> Story:
    return Story().created()


@pytest.fixture
def running(story: Story) -> Story:
    story.sealed()
    story.opened()
    return story


def test_plan__model_created_member_joined__announced_to_the_owners(story: Story) -> None:
    assert [job.kind for job in story.planned] == [JobKind.ANNOUNCE_MODEL]
    assert [(job.kind, job.service) for job in story.joined(1, 10)] == [(JobKind.ANNOUNCE_MODEL, Service.OWNER)]


def test_plan__cohort_sealed__lender_opens_its_first_round(story: Story) -> None:
    (job,) = (job for job in story.sealed() if job.kind is JobKind.OPEN_ROUND)
    assert (job.service, job.cohort_id, job.business_key) == (Service.LENDER, 1, "open_round:lender:cohort-1:number-1")


def test_plan__second_cohort_sealed_while_a_round_runs__waits(running: Story) -> None:
    assert kinds(running.sealed(2)) == []


def test_plan__round_opened__one_contribution_for_each_member(running: Story) -> None:
    jobs = [job for job in running.planned if job.kind is JobKind.CONTRIBUTE]
    assert [job.member for job in jobs] == running.members()
    assert {job.needs for job in jobs} == {frozenset({Service.OWNER, Service.TRAINER})}
    assert len({job.lock for job in jobs}) == 2
    assert {job.subject for job in jobs} == {"round-1"}


def test_plan__a_whole_round__accept_unlock_evaluate_then_the_next(running: Story) -> None:
    assert kinds(running.submitted()) == [JobKind.ACCEPT_SUBMISSIONS]
    assert kinds(running.accepted()) == [JobKind.UNLOCK, JobKind.UNLOCK]
    assert kinds(running.unlocked()) == [JobKind.EVALUATE_ROUND]
    settled = running.settled()
    assert kinds(settled) == [JobKind.CONCLUDE_CONTRIBUTION, JobKind.CONCLUDE_CONTRIBUTION, JobKind.OPEN_ROUND]
    assert "open_round:lender:cohort-1:number-2" in [job.business_key for job in settled]
    assert running.view.paid == 7
    assert running.view.best_error == 220_000_000


@pytest.mark.parametrize("state", [ModelState.TRAINED, ModelState.EXHAUSTED])
def test_plan__last_round_settled__model_concluded_and_bonds_taken_out(running: Story, state: ModelState) -> None:
    running.joined(2, 20)  # somebody waits in the forming cohort
    jobs = running.settled(state=state)
    assert kinds(jobs) == [JobKind.CONCLUDE_CONTRIBUTION] * 2 + [JobKind.CONCLUDE_MODEL, JobKind.LEAVE_COHORT, JobKind.LEAVE_COHORT]
    assert [job.cohort_id for job in jobs if job.kind is JobKind.LEAVE_COHORT] == [1, 2]


def test_plan__two_members_wait_in_the_forming_cohort_of_an_ended_model__leave_one_after_the_other() -> None:
    story = Story(cohort_size=3).created()
    story.sealed()
    story.opened()
    story.joined(2, 20)
    story.joined(2, 21)
    story.settled(state=ModelState.TRAINED)
    after_first = story.tell(events.MemberLeft, model_id=MODEL, cohort_id=CohortId(2), member=account(20))
    after_last = story.tell(events.MemberLeft, model_id=MODEL, cohort_id=CohortId(2), member=account(21))
    assert [job.business_key for job in after_first if job.kind is JobKind.LEAVE_COHORT] == ["leave_cohort:owner:cohort-2:of-1"]
    assert kinds(after_last) == []


@pytest.mark.parametrize("kind", [events.RoundFailed, events.RoundUnlockFailed])
def test_plan__round_failed__cohort_is_closed_and_another_sealed_one_goes_on(running: Story, kind: type[RepositoryEvent]) -> None:
    running.sealed(2)
    values = {"from_state": RoundState.SUBMITTING} if kind is events.RoundFailed else {}
    jobs = running.ended(kind, **values)
    assert kinds(jobs)[:2] == [JobKind.CONCLUDE_CONTRIBUTION] * 2
    assert {job.business_key for job in jobs if job.kind is JobKind.OPEN_ROUND} == {"open_round:lender:cohort-2:number-2"}


def test_plan__round_failed_and_no_other_cohort__nothing_is_opened(running: Story) -> None:
    assert JobKind.OPEN_ROUND not in kinds(running.ended(events.RoundFailed, from_state=RoundState.SUBMITTING))


def test_plan__round_defaulted__ends_the_model(running: Story) -> None:
    running.sealed(2)
    jobs = running.ended(events.RoundDefaulted, pool=Wei(9))
    assert JobKind.CONCLUDE_MODEL in kinds(jobs)
    assert JobKind.OPEN_ROUND not in kinds(jobs)
    assert [job.cohort_id for job in jobs if job.kind is JobKind.LEAVE_COHORT] == [2]
    assert running.view.state is ModelState.DEFAULTED


def test_plan__round_failed_after_the_training_deadline__ends_the_model(story: Story) -> None:
    story.sealed()
    story.opened()
    story.now = Timestamp(story.view.training_deadline + 1)
    jobs = story.ended(events.RoundFailed, from_state=RoundState.ACCEPTING)
    assert JobKind.CONCLUDE_MODEL in kinds(jobs)
    assert JobKind.OPEN_ROUND not in kinds(jobs)


def test_plan__model_closed_by_its_lender__concluded_and_left(story: Story) -> None:
    story.sealed()
    jobs = story.tell(events.ModelClosed, model_id=MODEL, state=ModelState.CANCELLED, refund=Wei(3))
    assert kinds(jobs) == [JobKind.CONCLUDE_MODEL, JobKind.LEAVE_COHORT]
    assert story.view.refunded == 3


def test_plan__money_events__ask_for_nothing_and_change_nothing(story: Story) -> None:
    before = story.view
    values: dict[str, Any] = {"account": LENDER, "amount": Wei(1)}
    assert story.tell(events.Credited, model_id=MODEL, reason=CreditReason.REWARD, **values) == []
    assert story.tell(events.Withdrawn, **values) == []
    assert story.view is before


def test_plan__the_same_event_twice_from_the_same_view__same_business_keys(running: Story) -> None:
    first = [job.business_key for job in plan_of_opening(running)]
    assert first == [job.business_key for job in plan_of_opening(running)]
    assert len(set(first)) == len(first)


def plan_of_opening(story: Story) -> list[JobSpec]:
    place = EventPlace(BlockNumber(9), BlockHash("0x" + "09" * 32), 0, TransactionHash("0x" + "00" * 32), START)
    opened = events.RoundOpened(
        place=place, round_id=RoundId(1), model_id=MODEL, cohort_id=CohortId(1), weights_digest=DIGEST, deadline=Timestamp(START + 60)
    )
    return plan(opened, story.view)


@pytest.mark.parametrize(
    ("steps", "services"),
    [
        ([], [Service.LENDER, Service.OWNER]),
        (["submitted"], [Service.LENDER, Service.OWNER]),
        (["submitted", "accepted"], [Service.LENDER, Service.OWNER]),
        (["submitted", "accepted", "unlocked"], [Service.OWNER]),
    ],
)
def test_plan_deadlines__round_past_its_deadline__expired_by_those_who_benefit(
    running: Story, steps: list[str], services: list[Service]
) -> None:
    for step in steps:
        getattr(running, step)()
    deadline = running.view.round(RoundId(1)).deadline
    assert plan_deadlines([running.view], deadline) == []
    jobs = plan_deadlines([running.view], Timestamp(deadline + 1))
    assert [(job.kind, job.service) for job in jobs] == [(JobKind.EXPIRE_ROUND, service) for service in services]


def test_plan_retreats__last_third_of_the_submit_window__those_who_have_not_submitted_leave(running: Story) -> None:
    first, second = running.members()
    values: dict[str, Any] = {"member": first, "member_index": 0, "gradient_digest": DIGEST, "unlock_commitment": b"u" * 32}
    running.tell(events.GradientSubmitted, round_id=RoundId(1), **values)
    assert plan_retreats([running.view], Timestamp(START + 40)) == []
    (job,) = plan_retreats([running.view], Timestamp(START + 41))
    assert (job.kind, job.service, job.round_id, job.member) == (JobKind.ABANDON, Service.OWNER, RoundId(1), second)
    assert superseded(job, running.view, Timestamp(START + 41)) is None
    assert plan_retreats([running.view], Timestamp(START + 61)) == []
    running.submitted()
    assert plan_retreats([running.view], Timestamp(START + 41)) == []
    assert superseded(job, running.view, Timestamp(START + 41)) == "round 1 is accepting"


def test_plan_deadlines__model_past_its_training_deadline__concluded_unless_a_round_runs(story: Story) -> None:
    story.sealed()
    after = Timestamp(story.view.training_deadline + 1)
    assert kinds(plan_deadlines([story.view], after)) == [JobKind.CONCLUDE_MODEL, JobKind.LEAVE_COHORT]
    story.opened()
    assert JobKind.CONCLUDE_MODEL not in kinds(plan_deadlines([story.view], after))


def test_superseded__job_of_a_state_that_is_over__says_why(running: Story) -> None:
    (contribute, _) = (job for job in running.planned if job.kind is JobKind.CONTRIBUTE)
    assert superseded(contribute, running.view, START) is None
    assert superseded(contribute, running.view, Timestamp(START + 61)) == "the deadline of round 1 has passed"
    running.submitted()
    assert superseded(contribute, running.view, START) == "round 1 is accepting"


def test_superseded__member_has_submitted_or_unlocked__says_so(running: Story) -> None:
    member = running.members()[0]
    values: dict[str, Any] = {"member": member, "member_index": 0}
    running.tell(events.GradientSubmitted, round_id=RoundId(1), gradient_digest=DIGEST, unlock_commitment=b"u" * 32, **values)
    job = next(job for job in running.planned if job.kind is JobKind.CONTRIBUTE and job.member == member)
    assert superseded(job, running.view, START) == "the member has submitted"


def test_superseded__open_round_of_a_closed_cohort_or_an_ended_model__says_so(story: Story) -> None:
    (job,) = (job for job in story.sealed() if job.kind is JobKind.OPEN_ROUND)
    assert superseded(job, story.view, START) is None
    assert superseded(job, story.view, Timestamp(story.view.training_deadline + 1)) == "model 1 is over"
    story.tell(events.CohortClosed, model_id=MODEL, cohort_id=CohortId(1))
    assert superseded(job, story.view, START) == "cohort 1 is closed"


def test_superseded__expiry_of_a_round_that_ended__says_so(running: Story) -> None:
    (job, _) = plan_deadlines([running.view], Timestamp(START + 61))
    assert superseded(job, running.view, START) is None
    running.ended(events.RoundFailed, from_state=RoundState.SUBMITTING)
    assert superseded(job, running.view, START) == "round 1 is failed"


def test_fold__member_leaves__last_takes_its_place() -> None:
    story = Story(cohort_size=4).created()
    for number in (10, 11, 12):
        story.joined(1, number)
    story.tell(events.MemberLeft, model_id=MODEL, cohort_id=CohortId(1), member=account(10))
    assert story.members() == [account(12), account(11)]
    story.tell(events.MemberLeft, model_id=MODEL, cohort_id=CohortId(1), member=account(11))
    assert story.members() == [account(12)]


def broken_tales() -> Iterator[Any]:
    def tale(name: str, kind: type[RepositoryEvent], **values: Any) -> Any:
        return pytest.param(kind, values, id=name)

    cohort: dict[str, Any] = {"model_id": MODEL, "cohort_id": CohortId(9)}
    yield tale("unknown cohort", events.CohortClosed, **cohort)
    yield tale("unknown round", events.SubmissionsAccepted, round_id=RoundId(9), deadline=START)
    yield tale("leaver who never joined", events.MemberLeft, model_id=MODEL, cohort_id=CohortId(1), member=account(99))
    yield tale(
        "model created twice",
        events.ModelCreated,
        model_id=MODEL,
        lender=LENDER,
        terms=valid_terms(START),
        manifest_digest=DIGEST,
        weights_digest=DIGEST,
        forming_cohort_id=CohortId(1),
    )
    yield tale("unlock without submission", events.MemberUnlocked, round_id=RoundId(1), member=account(10), member_index=0, seed=b"")


@pytest.mark.parametrize(("kind", "values"), list(broken_tales()))
def test_fold__event_that_does_not_fit__is_violated(running: Story, kind: type[RepositoryEvent], values: dict[str, Any]) -> None:
    with pytest.raises(HistoryBroken):
        running.tell(kind, **values)


def test_fold__event_of_a_model_never_created__is_violated() -> None:
    with pytest.raises(HistoryBroken):
        Story().tell(events.CohortClosed, model_id=MODEL, cohort_id=CohortId(1))


@settings(deadline=None)
@given(outcomes=st.lists(st.sampled_from(["settled", "failed", "unlock_failed"]), max_size=8), size=st.integers(1, 3))
def test_plan__any_course_of_rounds__one_open_round_for_each_and_members_asked_once(outcomes: list[str], size: int) -> None:
    story = Story(cohort_size=size).created(max_rounds=100)
    cohort_id, round_id = 1, 0
    story.sealed(cohort_id)
    for outcome in outcomes:
        round_id += 1
        story.opened(round_id, cohort_id)
        if outcome == "settled":
            story.submitted(round_id, cohort_id)
            story.accepted(round_id)
            story.unlocked(round_id, cohort_id)
            story.settled(round_id, cohort_id)
            continue
        kind = events.RoundFailed if outcome == "failed" else events.RoundUnlockFailed
        story.ended(kind, round_id, cohort_id, **({"from_state": RoundState.ACCEPTING} if outcome == "failed" else {}))
        cohort_id += 1
        story.sealed(cohort_id)
    openings = {job.business_key for job in story.planned if job.kind is JobKind.OPEN_ROUND}
    assert len(openings) == round_id + 1  # the one after the last outcome waits for its cohort's round
    asked = [job.business_key for job in story.planned if job.kind in {JobKind.CONTRIBUTE, JobKind.CONCLUDE_CONTRIBUTION}]
    assert len(asked) == len(set(asked)) == 2 * size * round_id
    assert story.view.rounds_paid == outcomes.count("settled")
    assert story.view.round_in_flight is None


def test_plan_retreats__a_window_of_days__nobody_leaves_before_its_last_hour(running: Story) -> None:
    current = running.view.round(RoundId(1))
    days = replace(current, opened_at=Timestamp(START), deadline=Timestamp(START + 10 * 86_400))
    view = replace(running.view, rounds={**running.view.rounds, RoundId(1): days})
    assert plan_retreats([view], Timestamp(days.deadline - 3600)) == []
    assert len(plan_retreats([view], Timestamp(days.deadline - 3599))) == 2
