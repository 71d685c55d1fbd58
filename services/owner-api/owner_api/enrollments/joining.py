"""joining → waiting: a fresh masking key for the cohort that fills now, the join through the outbox, and again when that cohort was sealed
in the meantime.

The contract is told which cohort is meant (`expectedCohortId`), so choosing it at the head risks nothing but a refused transaction.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import structlog

from hessian.chain.blocks import Receipt
from hessian.chain.records import ModelState
from hessian.cohorts.masks import masking_key_pair
from hessian.identifiers import CohortId, ModelId, Wei
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from owner_api.catalogue.service import require_listing
from owner_api.enrollments import secrets
from owner_api.judgement import cohort_objections
from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment, OutgoingTransaction, Owner
from owner_api.world import World

log = structlog.get_logger()
JOIN = "join"
MOST_JOINS = 50


async def join(world: World, enrollment_id: uuid.UUID) -> None:
    """One look: nothing to do while a join is under way; a join, or another one, where it is this node's turn. Raises Unavailable."""
    async with world.database.begin() as session:
        enrollment = await session.get_one(Enrollment, enrollment_id, with_for_update=True)
        owner = await session.get_one(Owner, enrollment.owner_id)
        if enrollment.state != EnrollmentState.JOINING:
            return
        earlier = await world.outbox.find(session, _key(enrollment)) if enrollment.joins else None
        if earlier is not None and earlier.state is not TransactionState.FAILED:
            return
        head = await world.chain.head_block()
        model = await world.repository.model(ModelId(enrollment.model_id), head)
        if model.state is not ModelState.OPEN:
            _refuse(enrollment, f"the model is {model.state.name.lower()}: it takes no more members")
            return
        if earlier is not None and (enrollment.cohort_id == model.forming_cohort_id or enrollment.joins >= MOST_JOINS):
            _refuse(enrollment, earlier.failure or "the contract refused to let this owner join")
            return
        cohort = await world.repository.cohort(model.forming_cohort_id, head)
        listing = await require_listing(session, world, enrollment.model_id)
        objections = cohort_objections(
            world.settings,
            cohort,
            cohort_size=model.terms.cohort_size,
            dimension=listing.manifest.specification.dimension,
            joining=(owner.address, enrollment.rows),
        )
        if objections:
            _refuse(enrollment, "this node's policy forbids the cohort that fills now: " + "; ".join(objections))
            return
        await _enqueue(session, world, enrollment, owner, model.forming_cohort_id, model.terms.member_bond)
    log.info("join_requested", enrollment_id=str(enrollment_id), cohort_id=int(model.forming_cohort_id), attempt=enrollment.joins)


async def _enqueue(session: Session, world: World, enrollment: Enrollment, owner: Owner, cohort_id: CohortId, bond: Wei) -> None:
    pair = masking_key_pair()  # of this cohort alone: a key that serves two cohorts would link their masks
    enrollment.joins += 1
    enrollment.cohort_id = cohort_id
    secrets.keep_masking_key(world.vault, enrollment, pair)
    await world.outbox.enqueue(
        session,
        business_key=_key(enrollment),
        sender=owner.address,
        call=world.repository.join(ModelId(enrollment.model_id), cohort_id, pair.public, enrollment.rows, bond=bond),
        purpose=JOIN,
        subject=str(enrollment.id),
    )


async def on_join_settled(session: Session, row: OutgoingTransaction, _receipt: Receipt | None) -> None:
    """Outbox handler: a final join makes the enrolment wait for its cohort; after a failed one the worker looks for the next cohort."""
    enrollment = await session.get_one(Enrollment, uuid.UUID(row.subject), with_for_update=True)
    if row.state is TransactionState.FINAL and enrollment.state == EnrollmentState.JOINING:
        enrollment.move_to(EnrollmentState.WAITING)
    enrollment.next_try_at = datetime.now(UTC)
    log.info("join_settled", enrollment_id=row.subject, state=row.state.value, reason=row.failure)


def _key(enrollment: Enrollment) -> str:
    return f"{JOIN}:{enrollment.id}:{enrollment.joins}"


def _refuse(enrollment: Enrollment, reason: str) -> None:
    enrollment.cohort_id = None
    enrollment.move_to(EnrollmentState.REFUSED, reason)
    log.info("enrollment_refused", enrollment_id=str(enrollment.id), reason=reason)
