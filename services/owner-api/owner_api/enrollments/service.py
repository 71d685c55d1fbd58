"""Enrolling: everything that can be refused at once is refused at once, with a sentence; what takes time is the worker's."""

from __future__ import annotations

import uuid

import structlog
from sqlalchemy import event, select

from hessian.chain.records import ModelState
from hessian.errors import Conflict, Malformed, NotFound
from hessian.identifiers import CohortId
from hessian.postgres.session import Session
from hessian.service import transfers
from hessian.service.transfers import Funds
from owner_api.catalogue.service import Listing, ensure_listed, require_listing
from owner_api.datasets import lineage
from owner_api.datasets import service as datasets
from owner_api.enrollments.schemas import EnrollmentCreate
from owner_api.judgement import ANY_COHORT, lineage_objections, model_objections
from owner_api.promises import lock_wallet, promised_by
from owner_api.releases import local_figure
from owner_api.states import EnrollmentState
from owner_api.tables import Dataset, Enrollment, Owner
from owner_api.world import World

log = structlog.get_logger()
LEAVE = "leave"
_ACTIVE = [state for state in EnrollmentState if state.is_active]


class EnrollmentNotFound(NotFound):
    """There is no such enrolment of this owner."""


class AlreadyEnrolled(Conflict):
    """This owner, or a version of this dataset, has an active enrolment already."""


class ModelNotOpen(Conflict):
    """The model does not train any more."""


class AloneNotConfirmed(Conflict):
    """In a cohort of one the lender learns this dataset's exact statistics; confirm with accept_alone to go on."""


class PolicyObjects(Conflict):
    """This node's own policy forbids it."""


class DatasetDoesNotFit(Malformed):
    """The dataset lacks what the model's manifest reads."""


class BalanceTooLow(Conflict):
    """The owner's wallet holds too little ether for the bond or fee and the gas."""


class NotAMember(Conflict):
    """There is no cohort to leave."""


async def look(world: World, owner: Owner, wanted: EnrollmentCreate) -> Funds:
    """List the model if it is not; what the wallet holds. The caller holds no session: content is waited for.

    Raises DatasetNotFound, ModelUnknown, Unavailable.
    """
    async with world.database.begin() as session:
        await datasets.find(session, owner, wanted.dataset_id)  # the cheapest refusal first, before anything is fetched
    await ensure_listed(world, wanted.model_id)
    return await transfers.funds(world.chain, owner.address)


async def create(session: Session, world: World, owner: Owner, wanted: EnrollmentCreate, funds: Funds) -> Enrollment:
    """A new enrolment in state `measuring`; `funds` are the wallet's. Raises the refusals above, DatasetNotFound, ManifestNotUsable."""
    listing = await require_listing(session, world, wanted.model_id)
    await lineage.lock_owner(session, owner.id)
    dataset = await datasets.find(session, owner, wanted.dataset_id, lock=True)
    await _require_free(session, owner, dataset, wanted.model_id)
    _require_fit(dataset, listing)
    if listing.terms.cohort_size == 1 and not wanted.accept_alone:
        raise AloneNotConfirmed(
            "this model trains with cohorts of one: nothing hides this owner from the lender, which then learns the dataset's exact sums "
            "(XᵀX and Xᵀ(y − ½): row counts, pairwise category counts, counts of one included). Send accept_alone: true to accept that"
        )
    objections = model_objections(world.settings, listing.terms, alone_confirmed=wanted.accept_alone)
    objections += await lineage_objections(session, world.settings, dataset, listing.manifest, ANY_COHORT)
    if objections:
        raise PolicyObjects("this node's policy forbids it: " + "; ".join(objections))
    await _require_balance(session, world, owner, listing, funds)
    enrollment = Enrollment(
        owner_id=owner.id,
        dataset_id=dataset.id,
        model_id=wanted.model_id,
        state=EnrollmentState.MEASURING,
        accept_alone=wanted.accept_alone,
        rows=dataset.rows,
        manifest_digest=listing.manifest_digest,
        cohort_size=listing.terms.cohort_size,
    )
    if listing.manifest.privacy is not None:
        enrollment.delta, enrollment.epsilon_local = listing.manifest.privacy.delta, local_figure(listing.manifest.privacy)
    session.add(enrollment)
    await session.flush()
    await session.refresh(enrollment)
    log.info("enrollment_created", enrollment_id=str(enrollment.id), model_id=wanted.model_id, rows=dataset.rows)
    return enrollment


async def _require_free(session: Session, owner: Owner, dataset: Dataset, model_id: int) -> None:
    active = select(Enrollment.model_id, Dataset.lineage).join(Dataset, Dataset.id == Enrollment.dataset_id)
    for other_model, other_lineage in await session.execute(active.where(Enrollment.owner_id == owner.id, Enrollment.state.in_(_ACTIVE))):
        if other_model == model_id:
            raise AlreadyEnrolled(f"this owner has an active enrolment with model {model_id} already")
        if other_lineage == dataset.lineage:
            raise AlreadyEnrolled(f"this dataset, or another version of it, is enrolled with model {other_model}: one cohort at a time")


def _require_fit(dataset: Dataset, listing: Listing) -> None:
    if listing.state is not ModelState.OPEN:
        raise ModelNotOpen(f"the model is {listing.state.name.lower()}")
    specification = listing.manifest.specification
    missing = [name for name in specification.columns if name not in dataset.column_names]
    if missing:
        raise DatasetDoesNotFit(f"the dataset lacks the columns {', '.join(missing[:10])}")
    label = specification.label
    if dataset.label != label.column or dataset.positive_value not in label.positive:
        raise DatasetDoesNotFit(f"the model predicts {label.column!r} in {list(label.positive)}; the dataset's label is declared otherwise")
    if dataset.rows > listing.terms.row_cap:
        raise DatasetDoesNotFit(f"the dataset has {dataset.rows} rows, the model takes at most {listing.terms.row_cap} from one member")


async def _require_balance(session: Session, world: World, owner: Owner, listing: Listing, funds: Funds) -> None:
    await lock_wallet(session, owner)
    promised = await promised_by(session, owner, funds.block)
    needed = listing.terms.member_bond + world.settings.gas_reserve_wei
    if funds.balance - promised.total < needed:
        raise BalanceTooLow(
            f"the wallet {owner.address} holds {funds.balance} wei{promised.aside}; this enrolment needs {needed} wei "
            f"(bond {listing.terms.member_bond} and {world.settings.gas_reserve_wei} for gas): send ether to it first"
        )


def wake_worker_after_commit(session: Session, world: World) -> None:
    """The worker finds the new row at once instead of at its next look."""
    event.listen(session.sync_session, "after_commit", lambda _: world.to_enroll.set(), once=True)


async def find(session: Session, owner: Owner, enrollment_id: uuid.UUID, *, lock: bool = False) -> Enrollment:
    """An enrolment of this owner. Raises EnrollmentNotFound."""
    wanted = select(Enrollment).where(Enrollment.id == enrollment_id, Enrollment.owner_id == owner.id)
    enrollment = (await session.execute(wanted.with_for_update() if lock else wanted)).scalar_one_or_none()
    if enrollment is None:
        raise EnrollmentNotFound
    return enrollment


async def leave(session: Session, world: World, enrollment: Enrollment, sender: Owner, reason: str) -> None:
    """Ask the contract for the way out; the enrolment closes once that is final. Raises NotAMember.

    While a round is in flight the contract lets a member go only if it has not submitted; otherwise the attempt fails and may be repeated.
    """
    if enrollment.state not in (EnrollmentState.WAITING, EnrollmentState.SEALED) or enrollment.cohort_id is None:
        raise NotAMember(f"the enrolment is {enrollment.state}: there is no cohort to leave")
    enrollment.reason = reason
    await world.outbox.enqueue(
        session,
        business_key=f"{LEAVE}:{enrollment.id}:{enrollment.leaves}",
        sender=sender.address,
        call=world.repository.leave(CohortId(enrollment.cohort_id)),
        purpose=LEAVE,
        subject=str(enrollment.id),
    )
