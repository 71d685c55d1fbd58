"""waiting → sealed → closed: what the chain's final block says about a member's cohort."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select

from hessian.chain.blocks import Block, Receipt
from hessian.chain.records import CohortRecord, ModelState
from hessian.errors import Violated
from hessian.identifiers import CohortId, ModelId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from owner_api.catalogue.service import require_listing
from owner_api.contributions.rounds import NotFinalYet
from owner_api.enrollments import service
from owner_api.judgement import cohort_objections
from owner_api.releases import cohort_figure
from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment, OutgoingTransaction, Owner
from owner_api.world import World

log = structlog.get_logger()
LONGEST_PAUSE = 60
_MEMBERS = (EnrollmentState.WAITING, EnrollmentState.SEALED)


class MembershipForged(Violated):
    """The contract lists this owner's account with another masking key or other rows than this node sent: its key is in use elsewhere."""


async def follow(session: Session, world: World, enrollment: Enrollment, at: Block) -> None:
    """Bring a member's enrolment, locked by the caller, to the state of a final block.

    In an open cohort only this node's own `leave` takes a member out, and its settlement closes the enrolment: a block without the member
    is older than the join. Raises NotFinalYet then, MembershipForged, Unavailable.
    """
    if enrollment.state not in _MEMBERS or enrollment.cohort_id is None:
        return
    owner = await session.get_one(Owner, enrollment.owner_id)
    cohort = await world.repository.cohort(CohortId(enrollment.cohort_id), at)
    index = cohort.index_of(owner.address)
    if cohort.is_closed:
        enrollment.move_to(EnrollmentState.CLOSED, enrollment.reason or "the cohort is closed")
        log.info("enrollment_closed", enrollment_id=str(enrollment.id), reason=enrollment.reason)
        return
    if index is None:
        raise NotFinalYet(f"block {at.number} does not show {owner.address} in cohort {enrollment.cohort_id}")
    enrollment.members = len(cohort.members)
    if cohort.is_sealed and enrollment.state == EnrollmentState.WAITING:
        await _seal(session, world, enrollment, owner, cohort, index)


async def _seal(session: Session, world: World, enrollment: Enrollment, owner: Owner, cohort: CohortRecord, index: int) -> None:
    """The cohort is fixed now: judge it as a whole, and leave at once, unharmed, when this node's policy does not like it."""
    member = cohort.members[index]
    if member.masking_key != enrollment.masking_key or member.rows != enrollment.rows:
        raise MembershipForged
    enrollment.member_index = index
    enrollment.move_to(EnrollmentState.SEALED)
    listing = await require_listing(session, world, enrollment.model_id)
    dimension = listing.manifest.specification.dimension
    if listing.manifest.privacy is not None:
        enrollment.honest_members = min(world.settings.policy_honest_members, len(cohort.members))
        enrollment.epsilon_cohort = await cohort_figure(session, world.settings, enrollment, listing.manifest, cohort)
    objections = cohort_objections(world.settings, cohort, cohort_size=enrollment.cohort_size, dimension=dimension)
    log.info("cohort_sealed", enrollment_id=str(enrollment.id), cohort_id=enrollment.cohort_id, objections=objections)
    if objections:
        await service.leave(session, world, enrollment, owner, "this node's policy forbids the cohort: " + "; ".join(objections))


async def leave_if_ended(session: Session, world: World, enrollment: Enrollment, at: Block) -> None:
    """Take the bond out once a final block shows the model ended and no round in flight; again, after a pause that doubles, if that failed.

    The coordinator asks for this once, perhaps before the join is booked here. `enrollment` is locked by the caller. Raises Unavailable.
    """
    if enrollment.state not in _MEMBERS or enrollment.cohort_id is None:
        return
    cohort = await world.repository.cohort(CohortId(enrollment.cohort_id), at)
    if cohort.is_closed or cohort.round_in_flight:
        return
    model = await world.repository.model(ModelId(enrollment.model_id), at)
    if model.state is not ModelState.OPEN and await _is_next_to_leave(session, enrollment, cohort):
        await service.leave(
            session, world, enrollment, await session.get_one(Owner, enrollment.owner_id), f"the model is {model.state.name.lower()}"
        )


async def _is_next_to_leave(session: Session, enrollment: Enrollment, cohort: CohortRecord) -> bool:
    """In a sealed cohort one leaver frees all: the local member that tried least. In a forming one each goes for itself."""
    leavers = [enrollment.id]
    if cohort.is_sealed:
        local = select(Enrollment.id).where(Enrollment.cohort_id == enrollment.cohort_id, Enrollment.state.in_(_MEMBERS))
        leavers = list((await session.execute(local.order_by(Enrollment.leaves, Enrollment.number))).scalars())
    row = OutgoingTransaction
    subjects = [str(leaver) for leaver in leavers]
    tried = select(row).where(row.purpose == service.LEAVE, row.subject.in_(subjects)).order_by(row.updated_at)
    attempts = list((await session.execute(tried)).scalars())
    if any(attempt.state is not TransactionState.FAILED for attempt in attempts):
        return False
    pause = timedelta(seconds=min(LONGEST_PAUSE, 2 ** len(attempts)))
    return leavers[0] == enrollment.id and (not attempts or datetime.now(UTC) >= attempts[-1].updated_at + pause)


async def on_leave_settled(session: Session, row: OutgoingTransaction, _receipt: Receipt | None) -> None:
    """Outbox handler: after a final leave the enrolment is over; a failed one may be tried again."""
    enrollment = await session.get_one(Enrollment, uuid.UUID(row.subject), with_for_update=True)
    if row.state is not TransactionState.FINAL:
        enrollment.leaves += 1
        enrollment.reason = row.failure
    elif EnrollmentState(enrollment.state).is_active:
        enrollment.move_to(EnrollmentState.CLOSED, enrollment.reason or "left the cohort")
    log.info("leave_settled", enrollment_id=row.subject, state=row.state.value, reason=row.failure)
