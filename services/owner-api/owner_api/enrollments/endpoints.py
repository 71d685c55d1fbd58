"""`/v1/enrollments`: an owner offers a dataset to a model and sees how far that is."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends

from hessian.chain.repository import ModelUnknown
from hessian.errors import ChainUnavailable, IpfsUnavailable
from hessian.postgres.idempotency import IdempotencyKeyReused, given, once
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey, Page, PageLimit, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from owner_api.auth import CallingOwner
from owner_api.catalogue.service import ManifestNotUsable
from owner_api.datasets.service import DatasetNotFound
from owner_api.enrollments import service
from owner_api.enrollments.schemas import EnrollmentCreate, EnrollmentRead
from owner_api.enrollments.service import (
    AloneNotConfirmed,
    AlreadyEnrolled,
    BalanceTooLow,
    DatasetDoesNotFit,
    EnrollmentNotFound,
    ModelNotOpen,
    NotAMember,
    PolicyObjects,
)
from owner_api.paging import cut, rows_of
from owner_api.tables import Answer, Enrollment
from owner_api.world import TheWorld

router = APIRouter(route_class=StrictJsonRoute, prefix="/enrollments", tags=["enrollments"])


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Enrol a dataset with a model",
    responses=refusals(
        ModelUnknown,
        ManifestNotUsable,
        DatasetNotFound,
        DatasetDoesNotFit,
        AlreadyEnrolled,
        ModelNotOpen,
        AloneNotConfirmed,
        PolicyObjects,
        BalanceTooLow,
        IdempotencyKeyReused,
        ChainUnavailable,
        IpfsUnavailable,
    ),
)
async def create(
    world: TheWorld, session: Transaction, owner: CallingOwner, wanted: EnrollmentCreate, key: IdempotencyKey
) -> EnrollmentRead:
    """Measure the dataset, then join the cohort that fills now with the model's bond. Follow the state until it is `sealed`."""
    request = f"POST /v1/enrollments {wanted.model_dump_json()}"
    if known := await given(world.database, Answer, caller=str(owner.id), key=key, request=request, answer_type=EnrollmentRead):
        return known
    funds = await service.look(world, owner, wanted)

    async def act() -> EnrollmentRead:
        return EnrollmentRead.of(await service.create(session, world, owner, wanted, funds))

    answer = await once(session, Answer, caller=str(owner.id), key=key, request=request, answer_type=EnrollmentRead, act=act)
    service.wake_worker_after_commit(session, world)
    return answer


@router.get("", summary="List enrolments")
async def page(
    world: TheWorld, session: Transaction, owner: CallingOwner, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[EnrollmentRead]:
    """The calling owner's enrolments, oldest first."""
    rows = await rows_of(session, Enrollment, owner.id, after, limit)
    return cut(rows, limit, lambda row: EnrollmentRead.of(row, world.measured_percent.get(row.id)))


@router.get("/{enrollment_id}", summary="Show an enrolment", responses=refusals(EnrollmentNotFound))
async def read(world: TheWorld, session: Transaction, owner: CallingOwner, enrollment_id: uuid.UUID) -> EnrollmentRead:
    """One enrolment of the calling owner."""
    return EnrollmentRead.of(await service.find(session, owner, enrollment_id), world.measured_percent.get(enrollment_id))


@router.post(
    "/{enrollment_id}/leave",
    status_code=HTTPStatus.ACCEPTED,
    summary="Leave the cohort",
    responses=refusals(EnrollmentNotFound, NotAMember, IdempotencyKeyReused),
)
async def leave(
    world: TheWorld, session: Transaction, owner: CallingOwner, enrollment_id: uuid.UUID, key: IdempotencyKey
) -> EnrollmentRead:
    """Take the bond back. A sealed cohort closes with it; while a round is in flight only a member that has not submitted may go."""

    async def act() -> EnrollmentRead:
        enrollment = await service.find(session, owner, enrollment_id, lock=True)
        await service.leave(session, world, enrollment, owner, "the owner left")
        return EnrollmentRead.of(enrollment)

    request = f"POST /v1/enrollments/{enrollment_id}/leave"
    return await once(session, Answer, caller=str(owner.id), key=key, request=request, answer_type=EnrollmentRead, act=act)
