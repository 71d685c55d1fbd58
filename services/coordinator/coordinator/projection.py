"""The contract's state as its events tell it: a pure fold, one model at a time.

A view holds the model, its cohorts that are not closed, its round in flight, and whatever else the event at hand speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hessian.chain.events import (
    CohortClosed,
    CohortSealed,
    Credited,
    GradientSubmitted,
    MemberJoined,
    MemberLeft,
    MemberUnlocked,
    ModelClosed,
    ModelCreated,
    RepositoryEvent,
    RoundDefaulted,
    RoundFailed,
    RoundOpened,
    RoundSettled,
    RoundUnlockFailed,
    SubmissionsAccepted,
    SubmissionsCompleted,
    UnlocksCompleted,
    Withdrawn,
)
from hessian.chain.records import ModelState, RoundState, SplitRule
from hessian.errors import Violated
from hessian.identifiers import Address, CohortId, Digest, ErrorUnits, ModelId, RoundId, Timestamp, Wei

MONEY_ONLY = (Credited, Withdrawn)
"""Events that say who may withdraw what: no view changes."""

NOTHING = Wei(0)
KeyT = TypeVar("KeyT")
ItemT = TypeVar("ItemT")


class HistoryBroken(Violated):
    """An event does not fit what the events before it said: one is missing, or the contract is not the one we know."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member; its place in the cohort's tuple is its member index."""

    account: Address
    rows: int


@dataclass(frozen=True, slots=True)
class CohortView:
    """A cohort."""

    cohort_id: CohortId
    model_id: ModelId
    is_sealed: bool = False
    is_closed: bool = False
    total_rows: int = 0
    members: tuple[MemberView, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """What one member did in a round, by the chain's clock."""

    member: Address
    member_index: int
    gradient_digest: Digest
    submitted_at: Timestamp
    unlocked_at: Timestamp | None = None


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round; `number` counts the model's rounds from 1."""

    round_id: RoundId
    model_id: ModelId
    cohort_id: CohortId
    number: int
    state: RoundState
    deadline: Timestamp
    weights_digest: Digest
    error_before: ErrorUnits
    opened_at: Timestamp
    error_after: ErrorUnits | None = None
    reward: Wei | None = None
    pool: Wei | None = None
    new_weights_digest: Digest | None = None
    report_digest: Digest | None = None
    ended_at: Timestamp | None = None
    submissions: tuple[SubmissionView, ...] = ()

    def submission_of(self, member: Address | None) -> SubmissionView | None:
        """What this member submitted, None when nothing yet."""
        return next((submission for submission in self.submissions if submission.member == member), None)


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model and the parts of it that can still change."""

    model_id: ModelId
    lender: Address
    state: ModelState
    bounty: Wei
    base_fee: Wei
    initial_error: ErrorUnits
    target_error: ErrorUnits
    best_error: ErrorUnits
    max_rounds: int
    cohort_size: int
    split_rule: SplitRule
    training_deadline: Timestamp
    manifest_digest: Digest
    weights_digest: Digest
    created_at: Timestamp
    is_closed: bool = False
    rounds_opened: int = 0
    rounds_paid: int = 0
    paid: Wei = NOTHING
    refunded: Wei = NOTHING
    cohorts: Mapping[CohortId, CohortView] = field(default_factory=dict)
    rounds: Mapping[RoundId, RoundView] = field(default_factory=dict)

    def is_over(self, timestamp: Timestamp) -> bool:
        """No further round can be opened at this time by the chain's clock. Past its deadline a model is Expired without an event."""
        return self.state is not ModelState.OPEN or self.is_closed or timestamp > self.training_deadline

    @property
    def round_in_flight(self) -> RoundView | None:
        """The contract allows one."""
        return next((one for one in self.rounds.values() if one.state.is_in_flight), None)

    def cohort(self, cohort_id: CohortId) -> CohortView:
        """Raises HistoryBroken."""
        return _known(self.cohorts, cohort_id, f"cohort {cohort_id} of model {self.model_id}")

    def round(self, round_id: RoundId) -> RoundView:
        """Raises HistoryBroken."""
        return _known(self.rounds, round_id, f"round {round_id} of model {self.model_id}")

    def with_cohort(self, cohort: CohortView) -> ModelView:
        """The same model with this cohort in it."""
        return replace(self, cohorts={**self.cohorts, cohort.cohort_id: cohort})

    def with_round(self, changed: RoundView) -> ModelView:
        """The same model with this round in it."""
        return replace(self, rounds={**self.rounds, changed.round_id: changed})


def fold(model: ModelView | None, event: RepositoryEvent) -> ModelView | None:
    """The model after `event`; events that are about money only leave it as it is. Raises HistoryBroken."""
    if isinstance(event, MONEY_ONLY):
        return model
    if isinstance(event, ModelCreated):
        if model is not None:
            raise HistoryBroken(f"model {event.model_id} was created twice")
        return _created(event)
    if model is None:
        raise HistoryBroken(f"{event.kind} at block {event.place.block_number} speaks of a model that was never created")
    return _cohort_changed(model, event) or _round_changed(model, event) or _round_ended(model, event) or model


def _created(event: ModelCreated) -> ModelView:
    terms = event.terms
    return ModelView(
        model_id=event.model_id,
        lender=event.lender,
        state=ModelState.OPEN,
        bounty=terms.bounty,
        base_fee=terms.base_fee,
        initial_error=terms.initial_error,
        target_error=terms.target_error,
        best_error=terms.initial_error,
        max_rounds=terms.max_rounds,
        cohort_size=terms.cohort_size,
        split_rule=terms.split_rule,
        training_deadline=terms.training_deadline,
        manifest_digest=event.manifest_digest,
        weights_digest=event.weights_digest,
        created_at=event.place.timestamp,
        cohorts={event.forming_cohort_id: CohortView(event.forming_cohort_id, event.model_id)},
    )


def _cohort_changed(model: ModelView, event: RepositoryEvent) -> ModelView | None:
    match event:
        case MemberJoined(cohort_id=cohort_id, member=account, rows=rows):
            cohort = model.cohort(cohort_id)
            return model.with_cohort(replace(cohort, members=(*cohort.members, MemberView(account, rows))))
        case MemberLeft(cohort_id=cohort_id, member=account):
            cohort = model.cohort(cohort_id)
            return model.with_cohort(replace(cohort, members=_without(cohort, account)))
        case CohortSealed(cohort_id=cohort_id, total_rows=total_rows, next_cohort_id=next_id):
            sealed = model.with_cohort(replace(model.cohort(cohort_id), is_sealed=True, total_rows=total_rows))
            return sealed.with_cohort(CohortView(next_id, model.model_id)) if next_id else sealed
        case CohortClosed(cohort_id=cohort_id):
            return model.with_cohort(replace(model.cohort(cohort_id), is_closed=True))
        case ModelClosed(state=state, refund=refund):
            return replace(model, state=state, is_closed=True, refunded=refund)
        case _:
            return None


def _without(cohort: CohortView, account: Address) -> tuple[MemberView, ...]:
    places = [member.account for member in cohort.members]
    if account not in places:
        raise HistoryBroken(f"{account} left cohort {cohort.cohort_id} without having joined it")
    members = list(cohort.members)
    last = members.pop()
    if last.account != account:
        members[places.index(account)] = last  # as the contract does it: the order is part of membersHash
    return tuple(members)


def _round_changed(model: ModelView, event: RepositoryEvent) -> ModelView | None:
    now = event.place.timestamp
    match event:
        case RoundOpened(round_id=round_id, cohort_id=cohort_id, weights_digest=weights, deadline=deadline):
            number = model.rounds_opened + 1
            opened = RoundView(
                round_id, model.model_id, cohort_id, number, RoundState.SUBMITTING, deadline, weights, model.best_error, opened_at=now
            )
            return replace(model, rounds_opened=number).with_round(opened)
        case GradientSubmitted(round_id=round_id, member=member, member_index=index, gradient_digest=digest):
            current = model.round(round_id)
            submission = SubmissionView(member, index, digest, submitted_at=now)
            return model.with_round(replace(current, submissions=(*current.submissions, submission)))
        case MemberUnlocked(round_id=round_id, member=member):
            current = model.round(round_id)
            if current.submission_of(member) is None:
                raise HistoryBroken(f"{member} unlocked round {round_id} without having submitted")
            unlocked = tuple(replace(one, unlocked_at=now) if one.member == member else one for one in current.submissions)
            return model.with_round(replace(current, submissions=unlocked))
        case SubmissionsCompleted(round_id=round_id, deadline=deadline):
            return model.with_round(replace(model.round(round_id), state=RoundState.ACCEPTING, deadline=deadline))
        case SubmissionsAccepted(round_id=round_id, deadline=deadline):
            return model.with_round(replace(model.round(round_id), state=RoundState.UNLOCKING, deadline=deadline))
        case UnlocksCompleted(round_id=round_id, deadline=deadline):
            return model.with_round(replace(model.round(round_id), state=RoundState.EVALUATING, deadline=deadline))
        case _:
            return None


def _round_ended(model: ModelView, event: RepositoryEvent) -> ModelView | None:
    match event:
        case RoundSettled(reward=reward, pool=pool, new_error=error, new_weights_digest=weights, report_digest=report, model_state=state):
            extra: dict[str, Any] = {"reward": reward, "pool": pool, "error_after": error}
            extra |= {"new_weights_digest": weights, "report_digest": report}
            ended = _end(model, event, RoundState.SETTLED, **extra)
            best = min(model.best_error, error)
            paid = Wei(model.paid + pool)
            return replace(ended, state=state, best_error=best, weights_digest=weights, rounds_paid=model.rounds_paid + 1, paid=paid)
        case RoundFailed():
            return _end(model, event, RoundState.FAILED)
        case RoundUnlockFailed():
            return _end(model, event, RoundState.UNLOCK_FAILED)
        case RoundDefaulted(pool=pool):
            ended = _end(model, event, RoundState.DEFAULTED, pool=pool)
            return replace(ended, state=ModelState.DEFAULTED, rounds_paid=model.rounds_paid + 1, paid=Wei(model.paid + pool))
        case _:
            return None


def _end(
    model: ModelView, event: RoundSettled | RoundFailed | RoundUnlockFailed | RoundDefaulted, state: RoundState, **extra: Any
) -> ModelView:
    ended = model.with_round(replace(model.round(event.round_id), state=state, ended_at=event.place.timestamp, **extra))
    if state is RoundState.SETTLED:
        return ended
    # PROTOCOL §4: every round that ends other than Settled closes its cohort
    return ended.with_cohort(replace(model.cohort(event.cohort_id), is_closed=True))


def _known(items: Mapping[KeyT, ItemT], key: KeyT, what: str) -> ItemT:
    if key not in items:
        raise HistoryBroken(f"an event speaks of {what}, which no event before it made known")
    return items[key]
