"""What an owner's wallet must keep when ether is sent from it."""

from __future__ import annotations

from sqlalchemy import func, select

from hessian.identifiers import Wei
from hessian.postgres.session import Session
from hessian.service import transfers
from hessian.service.transfers import TransferCreate, TransferRead
from owner_api.applications.preparing import REQUEST_SCORE
from owner_api.catalogue.service import terms_of
from owner_api.enrollments.joining import JOIN
from owner_api.states import ApplicationState, EnrollmentState
from owner_api.tables import Application, CatalogueModel, Enrollment, OutgoingTransaction, Owner
from owner_api.world import World

_BOND_NOT_PAID = (EnrollmentState.MEASURING, EnrollmentState.JOINING)
_FEE_NOT_PAID = (ApplicationState.PREPARING, ApplicationState.REQUESTING)
_ENROLLED = [state for state in EnrollmentState if state.is_active]
_APPLYING = [state for state in ApplicationState if state.is_under_way]


async def create(session: Session, world: World, owner: Owner, wanted: TransferCreate) -> TransferRead:
    """Raises RecipientRefused, NotFree, ChainUnavailable."""
    await session.execute(select(Owner.id).where(Owner.id == owner.id).with_for_update())
    leaving = await transfers.promised(session, OutgoingTransaction, owner.address, besides=(JOIN, REQUEST_SCORE))
    bonds, fees = await _bonds(session, owner), await _fees(session, owner)
    enrolled = select(func.count()).where(Enrollment.owner_id == owner.id, Enrollment.state.in_(_ENROLLED))
    applying = select(func.count()).where(Application.owner_id == owner.id, Application.state.in_(_APPLYING))
    working = (await session.execute(enrolled)).scalar_one() + (await session.execute(applying)).scalar_one()
    return await transfers.send(
        session,
        world.chain,
        world.outbox,
        owner.address,
        wanted,
        kept=Wei(leaving + bonds + fees + working * world.settings.gas_reserve_wei),
        what_for=f"bonds ({bonds}), fees ({fees}), what is on its way ({leaving}) and the gas of {working} enrolments and applications",
    )


async def _bonds(session: Session, owner: Owner) -> int:
    """What joins that are not final yet need."""
    wanted = (
        select(CatalogueModel)
        .join(Enrollment, Enrollment.model_id == CatalogueModel.model_id)
        .where(Enrollment.owner_id == owner.id, Enrollment.state.in_(_BOND_NOT_PAID))
    )
    return sum(terms_of(model).member_bond for model in (await session.execute(wanted)).scalars())


async def _fees(session: Session, owner: Owner) -> int:
    """What requests that are not final yet need."""
    wanted = select(func.sum(Application.fee)).where(Application.owner_id == owner.id, Application.state.in_(_FEE_NOT_PAID))
    return int((await session.execute(wanted)).scalar_one() or 0)
