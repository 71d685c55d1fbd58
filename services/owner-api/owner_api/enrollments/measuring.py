"""measuring → joining: the trainer computes the statistics, this node checks that they keep the manifest's bounds, and seals them.

Where the model requires differential privacy the trainer adds the noise in the same job: exact statistics never reach this process. What
was drawn for the same rows and the same mechanism before is used again, and nothing is computed.
"""

from __future__ import annotations

import asyncio
import base64
import uuid

import structlog

from hessian.errors import Refused, Unavailable
from hessian.learning.plain import ShapeRefused
from hessian.learning.statistics import StatisticsRefused, SufficientStatistics
from hessian.postgres.session import Session
from hessian.service.client import PeerRefused
from owner_api import releases, tickets
from owner_api.catalogue.service import Listing, require_listing
from owner_api.enrollments import secrets
from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment
from owner_api.world import World

log = structlog.get_logger()
_DATA_AT_FAULT = ("JobRefused", "JobLimitExceeded")


class TrainerConfused(Unavailable):
    """The trainer did not answer with statistics."""


async def measure(world: World, enrollment_id: uuid.UUID) -> None:
    """One attempt. Raises Unavailable when it may be repeated; what the data is at fault for refuses the enrolment."""
    async with world.database.begin() as session:
        enrollment = await session.get_one(Enrollment, enrollment_id)
        listing = await require_listing(session, world, enrollment.model_id)
        if await _use_kept_noise(session, world, enrollment, listing):
            return
        ticket = await tickets.issue_rows(session, world.settings, enrollment)
    try:
        statistics = await _ask_trainer(world, listing, ticket)
        if statistics.rows != enrollment.rows:
            raise StatisticsRefused(f"the trainer counted {statistics.rows} rows, the dataset has {enrollment.rows}")
        await asyncio.to_thread(listing.manifest.check_statistics, statistics)
    except Refused as refusal:
        async with world.database.begin() as session:
            (await _locked(session, enrollment_id)).move_to(EnrollmentState.REFUSED, refusal.sentence)
        log.info("enrollment_refused", enrollment_id=str(enrollment_id), reason=refusal.sentence)
        return
    finally:
        world.measured_percent.pop(enrollment_id, None)
    async with world.database.begin() as session:
        enrollment = await _locked(session, enrollment_id)
        if listing.manifest.privacy is not None:
            kept = await releases.keep_noise(
                session, world.vault, enrollment.dataset_id, listing.manifest, listing.manifest.privacy, statistics
            )
            enrollment.noised_id, statistics = kept.id, releases.open_noise(world.vault, kept)
        secrets.keep_statistics(world.vault, enrollment, statistics)
        enrollment.move_to(EnrollmentState.JOINING)
    log.info("enrollment_measured", enrollment_id=str(enrollment_id), rows=statistics.rows)


async def _use_kept_noise(session: Session, world: World, enrollment: Enrollment, listing: Listing) -> bool:
    """Whether these rows have left by this mechanism before: then they leave again with the same noise."""
    privacy = listing.manifest.privacy
    kept = await releases.kept_noise(session, enrollment.dataset_id, listing.manifest, privacy) if privacy is not None else None
    if kept is None:
        return False
    await session.refresh(enrollment, with_for_update=True)
    enrollment.noised_id = kept.id
    secrets.keep_statistics(world.vault, enrollment, releases.open_noise(world.vault, kept))
    enrollment.move_to(EnrollmentState.JOINING)
    return True


async def _ask_trainer(world: World, listing: Listing, ticket: str) -> SufficientStatistics:
    """Raises StatisticsRefused with the trainer's own sentence; Unavailable for everything that is not the data's fault."""
    try:
        answer = await world.trainer.post(
            "/v1/statistics", {"ticket": ticket, "manifest": base64.b64encode(listing.manifest_bytes).decode()}
        )
        return SufficientStatistics.from_plain(answer)
    except PeerRefused as error:
        if error.title in _DATA_AT_FAULT:
            raise StatisticsRefused(error.detail) from error
        raise TrainerConfused(error.sentence) from error
    except ShapeRefused as error:
        raise TrainerConfused from error


async def _locked(session: Session, enrollment_id: uuid.UUID) -> Enrollment:
    return await session.get_one(Enrollment, enrollment_id, with_for_update=True)
