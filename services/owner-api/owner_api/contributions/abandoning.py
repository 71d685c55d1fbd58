"""A member that cannot contribute leaves while that is free (PROTOCOL §6): its silence would cost the bond, whoever caused it."""

from __future__ import annotations

import structlog

from hessian.chain.records import RoundState
from hessian.postgres.session import Session
from owner_api.contributions.attempts import has_failed
from owner_api.contributions.rounds import NotFinalYet, contribution_of, is_owner, member_in, view_round
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.enrollments.following import follow
from owner_api.enrollments.service import leave
from owner_api.states import ContributionState, EnrollmentState
from owner_api.world import World

log = structlog.get_logger()


async def abandon(world: World, round_id: int, member: str, reason: str) -> OutcomeRead:
    """Leave the round's cohort, unless a submission is on its way. Raises NotFinalYet until the leave is final; repeats one that failed."""
    async with world.database.begin() as session:
        outcome = await _leave_if_free(session, world, round_id, member, reason)
    if outcome is None:
        raise NotFinalYet(f"{member} is leaving the cohort of round {round_id}")
    return outcome


async def _leave_if_free(session: Session, world: World, round_id: int, member: str, reason: str) -> OutcomeRead | None:
    """The answer when there is nothing to leave; None when the leave is with the outbox."""
    if not await is_owner(session, member):
        return OutcomeRead(outcome=Outcome.FOREIGN)
    contribution = await contribution_of(session, round_id, member)
    if contribution is not None and contribution.state == ContributionState.SUBMITTED and not await has_failed(session, contribution):
        return OutcomeRead(outcome=Outcome.DONE, reason="a submission is on its way")
    view = await view_round(world, round_id)
    if not view.is_in(RoundState.SUBMITTING):
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=view.standing)
    found = await member_in(session, view, member)
    if found is None:
        return OutcomeRead(outcome=Outcome.FOREIGN, reason="no active enrolment of this node is a member of that cohort")
    enrollment, owner = found
    await follow(session, world, enrollment, view.block)
    if enrollment.state != EnrollmentState.SEALED:
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=f"the enrolment is {enrollment.state}")
    index = view.cohort.index_of(owner.address)
    if index is not None and view.round.submissions[index].is_submitted:
        return OutcomeRead(outcome=Outcome.DONE, reason="the member has submitted")
    await leave(session, world, enrollment, owner, reason)
    log.warning("contribution_abandoned", round_id=round_id, member=member, reason=reason)
    return None
