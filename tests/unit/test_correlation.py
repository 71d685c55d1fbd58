"""The id under which a round is logged: the same words wherever they are derived."""

from __future__ import annotations

import pytest
import structlog

from coordinator.correlation import subject_of as subject_of_event
from coordinator.jobs import JobKind, JobSpec, Service
from hessian.chain.binding import Call
from hessian.chain.blocks import BlockHash, EventPlace, TransactionHash
from hessian.chain.encoding import contract_abi
from hessian.chain.events import CohortClosed, ModelClosed, RoundFailed, SubmissionsAccepted, Withdrawn
from hessian.chain.records import ModelState, RoundState
from hessian.identifiers import Address, BlockNumber, CohortId, ModelId, RoundId, Timestamp, Wei
from hessian.outbox.correlation import correlated, subject_of

ABI = contract_abi("ModelRepository")
SOMEWHERE = Address("0x1111111111111111111111111111111111111111")
PLACE = EventPlace(BlockNumber(1), BlockHash("0x" + "11" * 32), 0, TransactionHash("0x" + "22" * 32), Timestamp(1))


def call(function: str, *arguments: object) -> Call:
    return Call(SOMEWHERE, ABI.encode_call(function, *arguments), Wei(0))


@pytest.mark.parametrize(
    ("made", "subject"),
    [
        (call("submitGradient", 7, b"g" * 32, b"c" * 32), "round-7"),
        (call("unlock", 2**200, b"s" * 32), f"round-{2**200}"),
        (call("reportRound", 3, 5, b"w" * 32, b"r" * 32), "round-3"),
        (call("openRound", 4), "cohort-4"),
        (call("join", 9, 1, b"k" * 32, 10), "model-9"),
        (call("withdraw"), None),
        (Call(SOMEWHERE, b"", Wei(1)), None),
        (Call(SOMEWHERE, b"\x00" * 36, Wei(0)), None),
    ],
)
def test_subject_of_a_call__names_what_comes_first__or_nothing(made: Call, subject: str | None) -> None:
    assert subject_of(made) == subject


def test_correlated__inside_and_after__binds_and_gives_back() -> None:
    with structlog.contextvars.bound_contextvars(correlation_id="asked for by hand"):
        with correlated(call("unlock", 7, b"s" * 32)):
            assert structlog.contextvars.get_contextvars()["correlation_id"] == "round-7"
        with correlated(call("withdraw")):
            assert structlog.contextvars.get_contextvars()["correlation_id"] == "asked for by hand"
        assert structlog.contextvars.get_contextvars()["correlation_id"] == "asked for by hand"


def test_subject_of_an_event__round_cohort_model_or_money__the_narrowest() -> None:
    round_failed = RoundFailed(
        place=PLACE, round_id=RoundId(7), model_id=ModelId(1), cohort_id=CohortId(3), from_state=RoundState.SUBMITTING
    )
    assert subject_of_event(round_failed) == "round-7"
    assert subject_of_event(SubmissionsAccepted(place=PLACE, round_id=RoundId(7), deadline=Timestamp(1))) == "round-7"
    assert subject_of_event(CohortClosed(place=PLACE, model_id=ModelId(1), cohort_id=CohortId(3))) == "cohort-3"
    assert subject_of_event(ModelClosed(place=PLACE, model_id=ModelId(1), state=ModelState.TRAINED, refund=Wei(0))) == "model-1"
    assert subject_of_event(Withdrawn(place=PLACE, account=SOMEWHERE, amount=Wei(1))) is None


def test_subject_of_an_event__and_of_the_job_it_leads_to__agree() -> None:
    job = JobSpec(kind=JobKind.UNLOCK, service=Service.OWNER, model_id=ModelId(1), cohort_id=CohortId(3), round_id=RoundId(7))
    assert job.subject == subject_of_event(SubmissionsAccepted(place=PLACE, round_id=RoundId(7), deadline=Timestamp(1)))
