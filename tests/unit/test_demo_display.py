"""The demo's live picture says what the newest events mean, and never mistakes the head for final."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.demo.display import Display, doing, seconds_of
from devstack.demo.ledger import Ledger
from hessian.chain.blocks import BlockHash, EventPlace, TransactionHash
from hessian.chain.events import (
    CohortSealed,
    GradientSubmitted,
    MemberJoined,
    RepositoryEvent,
    RoundOpened,
    RoundSettled,
    SubmissionsAccepted,
    SubmissionsCompleted,
    UnlocksCompleted,
)
from hessian.chain.records import ModelState
from hessian.identifiers import Address, BlockNumber, CohortId, Digest, ErrorUnits, ModelId, RoundId, Timestamp, Wei

PLACE = EventPlace(BlockNumber(9), BlockHash("0x" + "00" * 32), 0, TransactionHash("0x" + "00" * 32), Timestamp(0))
MODEL, COHORT, ROUND = ModelId(1), CohortId(1), RoundId(7)
MEMBER = Address("0x" + "11" * 20)
DIGEST = Digest(b"\1" * 32)
STORY: list[tuple[RepositoryEvent, str]] = [
    (MemberJoined(place=PLACE, model_id=MODEL, cohort_id=COHORT, member=MEMBER, masking_key=b"", rows=5), "the cohort fills: 1 of 5"),
    (
        CohortSealed(place=PLACE, model_id=MODEL, cohort_id=COHORT, members_hash=b"", total_rows=5, next_cohort_id=CohortId(2)),
        "the lender opens a round",
    ),
    (
        RoundOpened(place=PLACE, round_id=ROUND, model_id=MODEL, cohort_id=COHORT, weights_digest=DIGEST, deadline=Timestamp(9)),
        "round 7: the owners compute under encryption, 0 of 1",
    ),
    (
        GradientSubmitted(place=PLACE, round_id=ROUND, member=MEMBER, member_index=0, gradient_digest=DIGEST, unlock_commitment=b""),
        "round 7: the owners compute under encryption, 1 of 1",
    ),
    (SubmissionsCompleted(place=PLACE, round_id=ROUND, deadline=Timestamp(9)), "checks every artifact"),
    (SubmissionsAccepted(place=PLACE, round_id=ROUND, deadline=Timestamp(9)), "0 of 1 owners have unlocked"),
    (UnlocksCompleted(place=PLACE, round_id=ROUND, deadline=Timestamp(9)), "opens the sum"),
    (
        RoundSettled(
            place=PLACE, round_id=ROUND, model_id=MODEL, cohort_id=COHORT, new_error=ErrorUnits(5), new_weights_digest=DIGEST,
            report_digest=DIGEST, reward=Wei(1), pool=Wei(2), model_state=ModelState.TRAINED,
        ),
        "round 7 is settled",
    ),
]  # fmt: skip


def _ledger(events: list[RepositoryEvent], final: int) -> Ledger:
    ledger = Ledger(Anvil(Path("anvil.log")), Deployment(Address("0x" + "22" * 20), BlockNumber(1)))
    ledger.events, ledger.seen_at, ledger.final = events, [float(number) for number in range(len(events))], final
    return ledger


@pytest.mark.parametrize("length", range(1, len(STORY) + 1))
def test_doing__after_each_event__says_what_comes_next(length: int) -> None:
    told = doing(_ledger([event for event, _ in STORY[:length]], final=9))
    assert STORY[length - 1][1] in told


def test_doing__newest_event_is_not_final__says_that_it_waits() -> None:
    assert doing(_ledger([STORY[0][0]], final=8)) == "waiting for the final block: MemberJoined is in block 9, final is 8"


def test_seconds_of__a_settled_round__counts_from_its_own_opening() -> None:
    events = [event for event, _ in STORY]
    opened = next(event for event in events if isinstance(event, RoundOpened))
    settled = next(event for event in events if isinstance(event, RoundSettled))
    earlier = replace(opened, round_id=RoundId(6))
    assert seconds_of(_ledger([earlier, *events], final=9), settled) == events.index(settled) - events.index(opened)


def test_draw__on_a_terminal__shows_the_member_by_name() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with Display(console) as display, display.phase("rounds", "training"):
        display.follow(_ledger([event for event, _ in STORY[:4]], final=9), {MEMBER: "Arbor Bank"})
        display.draw()
    assert "Arbor Bank" in output.getvalue()
    assert "submitted" in output.getvalue()
    assert display.seconds["rounds"] >= 0
