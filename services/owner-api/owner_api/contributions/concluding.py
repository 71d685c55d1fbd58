"""Ends: a round is over, a model is over."""

from __future__ import annotations

import structlog

from hessian.chain.events import Credited, RoundDefaulted, RoundSettled
from hessian.chain.records import CreditReason, ModelState, RoundState
from hessian.identifiers import BlockNumber, CohortId, Wei
from hessian.postgres.session import Session
from owner_api.contributions.rounds import NotFinalYet, RoundView, contribution_of, is_owner, local_member, local_members, view_round
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.contributions.sending import release
from owner_api.enrollments.following import follow
from owner_api.enrollments.service import leave
from owner_api.states import ContributionState, EnrollmentState
from owner_api.tables import Contribution
from owner_api.world import World

log = structlog.get_logger()
_PAID = (RoundState.SETTLED, RoundState.DEFAULTED)
_RELEASED = (ContributionState.SUBMITTED, ContributionState.UNLOCKED)


async def conclude(session: Session, world: World, round_id: int, member: str) -> OutcomeRead:
    """Book a round's end: what was earned, or that it failed; u_i is erased either way. Brings the enrolment up to date."""
    if not await is_owner(session, member):
        return OutcomeRead(outcome=Outcome.FOREIGN)
    view = await view_round(world, round_id)
    if view.round.state.is_in_flight:
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=view.standing)
    contribution = await contribution_of(session, round_id, member)
    if contribution is not None and ContributionState(contribution.state).successors:
        await _book(session, world, contribution, view)
    found = await local_member(session, view.round.cohort_id, member)
    if found is not None:
        await follow(session, world, found[0], view.block)
    return OutcomeRead(outcome=Outcome.DONE)


async def _book(session: Session, world: World, contribution: Contribution, view: RoundView) -> None:
    if view.round.state in _PAID and contribution.state == ContributionState.UNLOCKED:
        contribution.earned = await _earned(world, contribution, view)
        defaulted = view.round.state is RoundState.DEFAULTED
        contribution.move_to(ContributionState.SETTLED, "the lender did not report in time" if defaulted else None)
    else:
        if view.round.state is RoundState.UNLOCK_FAILED and contribution.state in _RELEASED:
            await release(session, world, contribution)  # others may have opened their masks: the node treats the sum as released
        contribution.move_to(ContributionState.FAILED, contribution.reason or f"the round ended as {view.round.state.name.lower()}")
    log.info(
        "contribution_concluded", round_id=view.round_id, member=contribution.member, state=contribution.state, earned=contribution.earned
    )


async def _earned(world: World, contribution: Contribution, view: RoundView) -> Wei:
    """What the transaction that ended this round credited to the member as reward, from the contract's own events."""
    events = await world.repository.events(BlockNumber(contribution.first_block), view.block.number)
    ends = {
        event.place.transaction_hash
        for event in events
        if isinstance(event, RoundSettled | RoundDefaulted) and event.round_id == contribution.round_id
    }
    if not ends:
        raise NotFinalYet(f"the Ethereum node does not show how round {contribution.round_id} ended")
    return Wei(
        sum(
            event.amount
            for event in events
            if isinstance(event, Credited)
            and event.place.transaction_hash in ends
            and event.account == contribution.member
            and event.model_id == contribution.model_id
            and event.reason is CreditReason.REWARD
        )
    )


async def leave_ended_model(session: Session, world: World, cohort_id: int) -> OutcomeRead:
    """The model of this cohort has ended: take the bonds out. In a sealed cohort one leaver frees all, else each goes for itself."""
    members = await local_members(session, CohortId(cohort_id))
    if not members:
        return OutcomeRead(outcome=Outcome.FOREIGN)
    final = await world.chain.final_block()
    cohort = await world.repository.cohort(CohortId(cohort_id), final)
    model = await world.repository.model(cohort.model_id, final)
    for enrollment, _ in members:
        await follow(session, world, enrollment, final)
    staying = [(enrollment, owner) for enrollment, owner in members if EnrollmentState(enrollment.state).is_active]
    if not staying:
        return OutcomeRead(outcome=Outcome.DONE)
    if model.state is ModelState.OPEN or cohort.round_in_flight:
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=f"the model is {model.state.name.lower()}, or a round is in flight")
    for enrollment, owner in staying[:1] if cohort.is_sealed else staying:
        await leave(session, world, enrollment, owner, f"the model is {model.state.name.lower()}")
    return OutcomeRead(outcome=Outcome.DONE)
