"""A round is open: this node's policy is asked again, u_i is drawn and stored, and only then a ticket is given out."""

from __future__ import annotations

import structlog

from hessian.chain.records import RoundState
from hessian.cohorts.masks import fresh_seed, pair_secret, unlock_commitment
from hessian.errors import Violated
from hessian.identifiers import digest_to_hex
from hessian.postgres.session import Session
from hessian.postgres.vault import Vault
from owner_api import tickets
from owner_api.catalogue.service import require_listing
from owner_api.contributions.rounds import RoundView, contribution_of, is_owner, member_in, view_round
from owner_api.contributions.schemas import Outcome, OutcomeRead, PairMaskRead, RedeemedTicket, TicketRead
from owner_api.enrollments import secrets
from owner_api.enrollments.following import follow
from owner_api.enrollments.service import leave
from owner_api.judgement import cohort_objections, lineage_objections, model_objections
from owner_api.states import ContributionState, EnrollmentState
from owner_api.tables import Contribution, Dataset, Enrollment, Owner
from owner_api.tickets import TicketRefused
from owner_api.world import World

log = structlog.get_logger()
_SEED = "self-mask seed"
_COMPUTING = (ContributionState.PREPARED, ContributionState.COMPUTED)


class SeedErased(Violated):
    """The self-mask seed of this contribution was erased and is needed after all."""


def seed_of(vault: Vault, contribution: Contribution) -> bytes:
    """u_i. Raises SeedErased, KeyLost."""
    if contribution.sealed_seed is None:
        raise SeedErased
    return vault.open(_SEED, str(contribution.id), contribution.sealed_seed)


async def contribute(session: Session, world: World, round_id: int, member: str) -> OutcomeRead | TicketRead:
    """A ticket for one member's gradient step, or why there is none. Idempotent: u_i is drawn once and kept across retries."""
    if not await is_owner(session, member):
        return OutcomeRead(outcome=Outcome.FOREIGN)
    contribution = await contribution_of(session, round_id, member)
    if contribution is not None and contribution.state not in _COMPUTING:
        return OutcomeRead(outcome=Outcome.DONE)
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
    if objections := await round_objections(session, world, enrollment, view):
        return await walk_away(session, world, enrollment, owner, objections)
    if contribution is None:
        contribution = await _prepare(session, world, enrollment, owner, view)
    ticket = await tickets.issue_gradient(session, world.settings, contribution)
    return TicketRead(ticket=ticket, manifest_digest=enrollment.manifest_digest, weights_digest=contribution.weights_digest)


async def round_objections(session: Session, world: World, enrollment: Enrollment, view: RoundView) -> list[str]:
    """The whole policy once more, over what is final now."""
    listing = await require_listing(session, world, enrollment.model_id)
    dataset = await session.get_one(Dataset, enrollment.dataset_id)
    objections = model_objections(world.settings, listing.terms, alone_confirmed=enrollment.accept_alone)
    dimension = listing.manifest.dimension
    objections += cohort_objections(world.settings, view.cohort, cohort_size=enrollment.cohort_size, dimension=dimension)
    return objections + await lineage_objections(session, world.settings, dataset, listing.manifest, view.round.cohort_id)


async def walk_away(session: Session, world: World, enrollment: Enrollment, owner: Owner, objections: list[str]) -> OutcomeRead:
    """Leaving before submitting costs nobody anything (PROTOCOL §6), silence would cost the bond."""
    reason = "this node's policy forbids it: " + "; ".join(objections)
    await leave(session, world, enrollment, owner, reason)
    log.warning("contribution_refused", enrollment_id=str(enrollment.id), reason=reason)
    return OutcomeRead(outcome=Outcome.REFUSED, reason=reason)


async def _prepare(session: Session, world: World, enrollment: Enrollment, owner: Owner, view: RoundView) -> Contribution:
    index = view.cohort.index_of(owner.address)
    if index is None or index != enrollment.member_index:
        raise Violated(f"member {owner.address} stands at another place of cohort {enrollment.cohort_id} than when it was sealed")
    context, seed = view.context(world), fresh_seed()
    contribution = Contribution(
        owner_id=owner.id,
        enrollment_id=enrollment.id,
        model_id=view.round.model_id,
        cohort_id=view.round.cohort_id,
        round_id=view.round_id,
        member=owner.address,
        member_index=index,
        state=ContributionState.PREPARED,
        weights_digest=view.round.weights_digest,
        context=context,
        unlock_commitment=unlock_commitment(context, index, seed),
        first_block=view.block.number,
    )
    session.add(contribution)
    await session.flush()
    contribution.sealed_seed = world.vault.seal(_SEED, str(contribution.id), seed)
    await session.flush()
    log.info("contribution_prepared", round_id=view.round_id, member=owner.address)
    return contribution


async def redeem(session: Session, world: World, ticket: str) -> RedeemedTicket:
    """What the trainer needs for one gradient step. Repeatable until the member has submitted. Raises TicketRefused, NotFinalYet."""
    contribution = await session.get_one(Contribution, await tickets.take_gradient(session, ticket), with_for_update=True)
    enrollment = await session.get_one(Enrollment, contribution.enrollment_id)
    if contribution.state not in _COMPUTING or enrollment.state != EnrollmentState.SEALED:
        raise TicketRefused("the contribution this ticket stands for needs no computing any more")
    view = await view_round(world, contribution.round_id)
    if view.context(world) != contribution.context:
        raise Violated(f"the context of round {contribution.round_id} is not the one its contribution was prepared for")
    private, own = secrets.masking_secret(world.vault, enrollment), contribution.member_index
    pair_masks = [
        PairMaskRead(sign=1 if index > own else -1, secret=pair_secret(private, member.masking_key, contribution.context, own, index).hex())
        for index, member in enumerate(view.cohort.members)
        if index != own
    ]
    return RedeemedTicket(
        statistics=secrets.statistics_of(world.vault, enrollment).to_plain(),
        total_rows=view.cohort.total_rows,
        member_index=own,
        context=contribution.context.hex(),
        manifest_digest=digest_to_hex(enrollment.manifest_digest)[2:],
        weights_digest=digest_to_hex(contribution.weights_digest)[2:],
        pair_masks=pair_masks,
        self_mask=seed_of(world.vault, contribution).hex(),
    )
