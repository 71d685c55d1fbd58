"""Moves enrolments: durable, because all it knows is in their rows; several at a time, because each waits for trainer and chain."""

from __future__ import annotations

import asyncio
import uuid

import structlog
from sqlalchemy import func, select, update

from hessian.errors import DatabaseUnavailable, Refused, Unavailable
from hessian.postgres.session import Session
from owner_api.contributions.attempts import send_again
from owner_api.enrollments.following import follow, leave_if_ended
from owner_api.enrollments.joining import join
from owner_api.enrollments.measuring import measure
from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment
from owner_api.waiting import first_of
from owner_api.world import World

log = structlog.get_logger()
LARGEST_BACKOFF = 60.0
_ACTIVE = [state for state in EnrollmentState if state.is_active]


async def run(world: World, stop: asyncio.Event) -> None:
    """Until `stop`. What Unavailable breaks is tried again with backoff; anything else ends the worker, and with it the process."""
    moving: dict[uuid.UUID, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            world.to_enroll.clear()
            moving = {enrollment: task for enrollment, task in moving.items() if not task.done()}
            free = world.settings.enrollment_workers - len(moving)
            for enrollment in await _due(world, free, moving):
                moving[enrollment] = tasks.create_task(_advance(world, enrollment), name=f"enrolment {enrollment}")
            await first_of(stop, world.to_enroll, seconds=world.settings.enrollment_poll_seconds)
        for task in moving.values():
            task.cancel()  # the rows remember; the next start goes on


async def _due(world: World, free: int, moving: dict[uuid.UUID, asyncio.Task[None]]) -> list[uuid.UUID]:
    wanted = select(Enrollment.id).where(
        Enrollment.state.in_(_ACTIVE), Enrollment.next_try_at <= func.now(), Enrollment.id.not_in(moving.keys())
    )
    try:
        async with world.database.begin() as session:
            return list((await session.execute(wanted.order_by(Enrollment.next_try_at).limit(free))).scalars())
    except DatabaseUnavailable as error:
        log.warning("enrollments_wait", reason=error.sentence)
        return []


async def _advance(world: World, enrollment_id: uuid.UUID) -> None:
    """Take one enrolment one step further, or note when to try again."""
    try:
        changed = await _step(world, enrollment_id)
        delay = 0.0 if changed else world.settings.enrollment_poll_seconds
        await _again(world, enrollment_id, delay, failed=False)
        if changed:
            world.to_enroll.set()
    except (Unavailable, Refused) as error:
        log.warning("enrollment_waits", enrollment_id=str(enrollment_id), reason=error.sentence)
        try:
            if isinstance(error, Refused):
                await _refuse(world, enrollment_id, error)
            await _again(world, enrollment_id, None, failed=True)
        except DatabaseUnavailable:
            await asyncio.sleep(world.settings.enrollment_poll_seconds)


async def _refuse(world: World, enrollment_id: uuid.UUID, refusal: Refused) -> None:
    """What cannot be done as it stands ends an enrolment that has not joined; a member stays one, and is looked at again."""
    async with world.database.begin() as session:
        enrollment = await session.get_one(Enrollment, enrollment_id, with_for_update=True)
        if enrollment.state in (EnrollmentState.MEASURING, EnrollmentState.JOINING):
            enrollment.move_to(EnrollmentState.REFUSED, refusal.sentence)


async def _step(world: World, enrollment_id: uuid.UUID) -> bool:
    """Whether the state changed. Raises Unavailable."""
    async with world.database.begin() as session:
        before = (await session.get_one(Enrollment, enrollment_id)).state
    match EnrollmentState(before):
        case EnrollmentState.MEASURING:
            await measure(world, enrollment_id)
        case EnrollmentState.JOINING:
            await join(world, enrollment_id)
        case EnrollmentState.WAITING | EnrollmentState.SEALED:
            final = await world.chain.final_block()
            async with world.database.begin() as session:
                enrollment = await session.get_one(Enrollment, enrollment_id, with_for_update=True)
                await follow(session, world, enrollment, final)
                await leave_if_ended(session, world, enrollment, final)
            async with world.database.begin() as session:  # of its own: everybody else locks the contribution before the enrolment
                await send_again(session, world, enrollment_id)
    async with world.database.begin() as session:
        return (await session.get_one(Enrollment, enrollment_id)).state != before


async def _again(world: World, enrollment_id: uuid.UUID, delay: float | None, *, failed: bool) -> None:
    """Set the next look: after `delay` seconds, or after a backoff that doubles with every failure in a row."""
    async with world.database.begin() as session:
        enrollment = await session.get_one(Enrollment, enrollment_id, with_for_update=True)
        enrollment.tries = enrollment.tries + 1 if failed else 0
        seconds = min(LARGEST_BACKOFF, 2.0 ** min(enrollment.tries, 10) / 2) if delay is None else delay
        await _set_next(session, enrollment_id, seconds)


async def _set_next(session: Session, enrollment_id: uuid.UUID, seconds: float) -> None:
    due = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    await session.execute(update(Enrollment).where(Enrollment.id == enrollment_id).values(next_try_at=due))
