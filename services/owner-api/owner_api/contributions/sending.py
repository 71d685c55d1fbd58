"""From the stored artifact to the signed unlock. What was stored is what is sent, for ever; what is signed was checked at a final block."""

from __future__ import annotations

import asyncio

import structlog

from hessian.artifacts.gradient import MaskedGradient
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.records import RoundState
from hessian.errors import Conflict, NotFound, Violated
from hessian.identifiers import Digest, digest_of
from hessian.postgres.session import Session
from owner_api.catalogue.service import require_listing
from owner_api.contributions.attempts import send
from owner_api.contributions.preparing import round_objections, walk_away
from owner_api.contributions.rounds import RoundView, contribution_of, is_owner, view_round
from owner_api.contributions.schemas import Outcome, OutcomeRead
from owner_api.datasets import lineage
from owner_api.releases import withdraw_cohort_figures
from owner_api.states import ContributionState
from owner_api.tables import Contribution, Dataset, Enrollment, Owner, Release
from owner_api.world import World

log = structlog.get_logger()
_AFTER_SUBMIT = (ContributionState.SUBMITTED, ContributionState.UNLOCKED, ContributionState.SETTLED)
_AFTER_UNLOCK = (ContributionState.UNLOCKED, ContributionState.SETTLED)
_BEFORE_UNLOCKING = (RoundState.SUBMITTING, RoundState.ACCEPTING)


class ContributionNotFound(NotFound):
    """No contribution of this node was prepared for that round and member."""


class NothingToSubmit(Conflict):
    """No artifact is stored for this contribution."""


class OtherArtifactStored(Conflict):
    """The digest is not that of the stored artifact: the first one stored is the one that counts."""


class RoundNotUnlocking(Conflict):
    """The final block does not show every submission and the lender's acceptance: nothing is opened before."""


class SubmissionForged(Violated):
    """The contract holds another submission for this member than the one this node signed."""


async def store_artifact(session: Session, world: World, round_id: int, member: str, data: bytes) -> Contribution:
    """Check and keep an artifact; where one is kept already, that one counts. Raises ContributionNotFound, ArtifactRefused."""
    contribution = await _required(session, round_id, member)
    if contribution.artifact is None:
        if contribution.state != ContributionState.PREPARED:
            raise ContributionNotFound(f"the contribution to round {round_id} is {contribution.state}")
        listing = await require_listing(session, world, contribution.model_id)
        await asyncio.to_thread(_check, data, listing.manifest, contribution.context, contribution.member_index)
        contribution.artifact, contribution.gradient_digest = data, digest_of(data)
        contribution.move_to(ContributionState.COMPUTED)
        log.info("artifact_stored", round_id=round_id, member=contribution.member, bytes=len(data))
    return contribution


def _check(data: bytes, manifest: ModelManifest, context: bytes, index: int) -> None:
    MaskedGradient.from_bytes(data).check_against(manifest, context, index)


async def submit(session: Session, world: World, round_id: int, member: str, digest: Digest) -> OutcomeRead:
    """Anchor the stored artifact's digest and the unlock commitment. Raises ContributionNotFound, NothingToSubmit, OtherArtifactStored."""
    if not await is_owner(session, member):
        return OutcomeRead(outcome=Outcome.FOREIGN)
    contribution = await _required(session, round_id, member)
    if contribution.gradient_digest is None:
        raise NothingToSubmit
    if contribution.gradient_digest != digest:
        raise OtherArtifactStored
    if contribution.state in _AFTER_SUBMIT:
        return OutcomeRead(outcome=Outcome.DONE)
    view = await view_round(world, round_id)
    if not view.is_in(RoundState.SUBMITTING):
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=view.standing)
    enrollment = await session.get_one(Enrollment, contribution.enrollment_id, with_for_update=True)
    if objections := await round_objections(session, world, enrollment, view):
        return await walk_away(session, world, enrollment, await session.get_one(Owner, enrollment.owner_id), objections)
    contribution.move_to(ContributionState.SUBMITTED)
    await send(session, world, contribution)
    return OutcomeRead(outcome=Outcome.DONE)


async def unlock(session: Session, world: World, round_id: int, member: str) -> OutcomeRead:
    """Publish u_i, once a final block shows every submission and the acceptance. From here the sum counts as released.

    Raises ContributionNotFound, RoundNotUnlocking, SubmissionForged.
    """
    if not await is_owner(session, member):
        return OutcomeRead(outcome=Outcome.FOREIGN)
    contribution = await _required(session, round_id, member)
    if contribution.state in _AFTER_UNLOCK:
        return OutcomeRead(outcome=Outcome.DONE)
    view = await view_round(world, round_id)
    if view.round.state in _BEFORE_UNLOCKING:
        raise RoundNotUnlocking(f"{view.standing}: nothing is opened before every submission and the acceptance are final")
    if not view.is_in(RoundState.UNLOCKING):
        return OutcomeRead(outcome=Outcome.SUPERSEDED, reason=view.standing)
    _require_own_submission(world, contribution, view)
    enrollment = await session.get_one(Enrollment, contribution.enrollment_id)
    await lineage.lock_owner(session, contribution.owner_id)
    if objections := await round_objections(session, world, enrollment, view):
        return OutcomeRead(outcome=Outcome.REFUSED, reason="this node's policy forbids it: " + "; ".join(objections))
    await release(session, world, contribution)
    contribution.move_to(ContributionState.UNLOCKED)
    await send(session, world, contribution)
    return OutcomeRead(outcome=Outcome.DONE)


def _require_own_submission(world: World, contribution: Contribution, view: RoundView) -> None:
    """All members have submitted, and what the contract holds for this one is what this node signed."""
    if not all(submission.is_submitted for submission in view.round.submissions):
        raise RoundNotUnlocking
    own = view.round.submissions[contribution.member_index]
    anchored = (own.gradient_digest, own.unlock_commitment, view.context(world))
    if anchored != (contribution.gradient_digest, contribution.unlock_commitment, contribution.context):
        raise SubmissionForged


async def release(session: Session, world: World, contribution: Contribution) -> None:
    """Remember, for ever, that rows of this lineage are part of a sum that may be opened."""
    enrollment = await session.get_one(Enrollment, contribution.enrollment_id)
    dataset = await session.get_one(Dataset, enrollment.dataset_id)
    place = (world.settings.chain_id, world.repository.address, contribution.cohort_id)
    known = [(known.chain_id, known.contract, known.cohort_id) for known in await lineage.released_cohorts(session, dataset.lineage)]
    if place not in known:
        if known:
            await withdraw_cohort_figures(session, dataset.lineage)
        session.add(
            Release(
                lineage=dataset.lineage,
                chain_id=world.settings.chain_id,
                contract=world.repository.address,
                model_id=contribution.model_id,
                cohort_id=contribution.cohort_id,
                round_id=contribution.round_id,
                noised_id=enrollment.noised_id,
            )
        )


async def _required(session: Session, round_id: int, member: str) -> Contribution:
    contribution = await contribution_of(session, round_id, member)
    if contribution is None:
        raise ContributionNotFound
    return contribution
