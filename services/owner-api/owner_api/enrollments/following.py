"""waiting → sealed → closed: what the chain's final block says about a member's cohort."""

from __future__ import annotations

import uuid

import structlog

from hessian.chain.blocks import Block, Receipt
from hessian.chain.records import CohortRecord
from hessian.errors import Violated
from hessian.identifiers import CohortId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from owner_api.catalogue.service import require_listing
from owner_api.contributions.rounds import NotFinalYet
from owner_api.enrollments import service
from owner_api.judgement import cohort_objections
from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment, OutgoingTransaction, Owner
from owner_api.world import World

log = structlog.get_logger()


class MembershipForged(Violated):
    """The contract lists this owner's account with another masking key or other rows than this node sent: its key is in use elsewhere."""


async def follow(session: Session, world: World, enrollment: Enrollment, at: Block) -> None:
    """Bring a member's enrolment, locked by the caller, to the state of a final block.

    In an open cohort only this node's own `leave` takes a member out, and its settlement closes the enrolment: a block without the member
    is older than the join. Raises NotFinalYet then, MembershipForged, Unavailable.
    """
    if enrollment.state not in (EnrollmentState.WAITING, EnrollmentState.SEALED) or enrollment.cohort_id is None:
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
    objections = cohort_objections(world.settings, cohort, cohort_size=enrollment.cohort_size, dimension=dimension)
    log.info("cohort_sealed", enrollment_id=str(enrollment.id), cohort_id=enrollment.cohort_id, objections=objections)
    if objections:
        await service.leave(session, world, enrollment, owner, "this node's policy forbids the cohort: " + "; ".join(objections))


async def on_leave_settled(session: Session, row: OutgoingTransaction, _receipt: Receipt | None) -> None:
    """Outbox handler: after a final leave the enrolment is over; a failed one may be tried again."""
    enrollment = await session.get_one(Enrollment, uuid.UUID(row.subject), with_for_update=True)
    if row.state is not TransactionState.FINAL:
        enrollment.leaves += 1
        enrollment.reason = row.failure
    elif EnrollmentState(enrollment.state).is_active:
        enrollment.move_to(EnrollmentState.CLOSED, enrollment.reason or "left the cohort")
    log.info("leave_settled", enrollment_id=row.subject, state=row.state.value, reason=row.failure)
