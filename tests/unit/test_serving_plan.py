"""The serving contract's fold and plan: what each event changes, what it asks of whom, and that nothing is asked in vain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator import serving
from coordinator.jobs import JobKind, JobSpec, Service
from coordinator.projection import HistoryBroken
from coordinator.serving import ServingView
from hessian.chain import deployment_events as events
from hessian.chain.blocks import BlockHash, EventPlace, TransactionHash
from hessian.chain.deployment_records import FeeCreditReason, RequestState
from hessian.identifiers import Address, BlockNumber, DeploymentId, Digest, ModelId, RequestId, Timestamp, Wei

NOW = Timestamp(1_000_000)
PLACE = EventPlace(BlockNumber(7), BlockHash("0x" + "07" * 32), 0, TransactionHash("0x" + "00" * 32), NOW)
LENDER, BORROWER = Address("0x" + "aa" * 20), Address("0x" + "bb" * 20)
DEPLOYMENT, REQUEST = DeploymentId(3), RequestId(12)
DEPLOYED = events.ModelDeployed(
    place=PLACE,
    deployment_id=DEPLOYMENT,
    model_id=ModelId(1),
    lender=LENDER,
    weights_digest=Digest(b"w" * 32),
    scoring_digest=Digest(b"s" * 32),
    fee=Wei(5),
    answer_window=60,
)
REQUESTED = events.ScoreRequested(
    place=PLACE,
    request_id=REQUEST,
    deployment_id=DEPLOYMENT,
    requester=BORROWER,
    query_digest=Digest(b"q" * 32),
    deadline=Timestamp(NOW + 60),
)
ANSWERED = events.ScoreAnswered(place=PLACE, request_id=REQUEST, deployment_id=DEPLOYMENT, answer_digest=Digest(b"a" * 32))
EXPIRED = events.RequestExpired(place=PLACE, request_id=REQUEST, deployment_id=DEPLOYMENT)
RETIRED = events.DeploymentRetired(place=PLACE, deployment_id=DEPLOYMENT)
CREDITED = events.Credited(place=PLACE, account=LENDER, request_id=REQUEST, reason=FeeCreditReason.FEE, amount=Wei(5))
WITHDRAWN = events.Withdrawn(place=PLACE, account=LENDER, amount=Wei(5))


def told(*story: events.DeploymentEvent) -> ServingView:
    view = None
    for event in story:
        view = serving.fold(view, event)
    assert view is not None
    return view


def job(kind: JobKind, service: Service = Service.OWNER) -> JobSpec:
    return JobSpec(kind=kind, service=service, model_id=ModelId(1), request_id=REQUEST)


def test_fold__request_from_its_making_to_its_end__tells_the_contracts_story() -> None:
    view = told(DEPLOYED, REQUESTED, ANSWERED, CREDITED, WITHDRAWN)
    assert view.request is not None
    assert (view.request.state, view.request.answer_digest, view.request.ended_at) == (RequestState.ANSWERED, b"a" * 32, NOW)
    assert (view.request.requester, view.request.deadline, view.request.requested_at) == (BORROWER, NOW + 60, NOW)
    expired = told(DEPLOYED, REQUESTED, EXPIRED)
    assert expired.request is not None
    assert (expired.request.state, expired.request.answer_digest) == (RequestState.EXPIRED, None)
    assert (told(DEPLOYED).deployment.is_retired, told(DEPLOYED, RETIRED).deployment.is_retired) == (False, True)


@pytest.mark.parametrize(
    "story",
    [
        (REQUESTED,),
        (RETIRED,),
        (DEPLOYED, DEPLOYED),
        (DEPLOYED, REQUESTED, REQUESTED),
        (DEPLOYED, ANSWERED),
        (DEPLOYED, REQUESTED, ANSWERED, EXPIRED),
        (DEPLOYED, REQUESTED, EXPIRED, ANSWERED),
    ],
)
def test_fold__event_that_does_not_follow__breaks_history(story: tuple[events.DeploymentEvent, ...]) -> None:
    with pytest.raises(HistoryBroken):
        told(*story)


def test_plan__each_event__asks_the_lender_to_answer_and_the_borrowers_node_to_read() -> None:
    assert serving.plan(REQUESTED, told(DEPLOYED, REQUESTED)) == [job(JobKind.ANSWER_SCORE, Service.LENDER)]
    assert serving.plan(ANSWERED, told(DEPLOYED, REQUESTED, ANSWERED)) == [job(JobKind.READ_ANSWER)]
    assert serving.plan(EXPIRED, told(DEPLOYED, REQUESTED, EXPIRED)) == [job(JobKind.READ_ANSWER)]
    for event in (DEPLOYED, RETIRED, CREDITED):
        assert serving.plan(event, told(DEPLOYED)) == []
    assert serving.plan(WITHDRAWN, None) == []


def test_plan_refunds__overdue_requests__are_expired_by_who_paid() -> None:
    assert serving.plan_refunds([told(DEPLOYED, REQUESTED), told(DEPLOYED)]) == [job(JobKind.EXPIRE_REQUEST)]


def test_superseded__job_whose_request_has_ended__is_not_sent_but_a_late_lender_is_told() -> None:
    waiting, answered, expired = told(DEPLOYED, REQUESTED), told(DEPLOYED, REQUESTED, ANSWERED), told(DEPLOYED, REQUESTED, EXPIRED)
    answer, expire, read = job(JobKind.ANSWER_SCORE, Service.LENDER), job(JobKind.EXPIRE_REQUEST), job(JobKind.READ_ANSWER)
    assert [serving.superseded(answer, view) for view in (waiting, answered, expired)] == [None, "request 12 is answered", None]
    assert [serving.superseded(expire, view) for view in (waiting, answered, expired)] == [
        None, "request 12 is answered", "request 12 is expired",
    ]  # fmt: skip
    assert [serving.superseded(read, view) for view in (waiting, answered, expired)] == [None, None, None]
    assert serving.superseded(answer, told(DEPLOYED)) is None


def test_job__about_a_request__is_named_locked_and_needed_by_it() -> None:
    answer = job(JobKind.ANSWER_SCORE, Service.LENDER)
    assert (answer.subject, answer.business_key) == ("request-12", "answer_score:lender:request-12")
    assert answer.lock == "request-12:lender:answer_score"
    assert answer.needs == {Service.LENDER}
    other = replace(answer, request_id=RequestId(13))
    assert {other.business_key, other.lock}.isdisjoint({answer.business_key, answer.lock})
