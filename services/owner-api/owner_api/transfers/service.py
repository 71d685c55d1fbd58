"""What an owner's wallet must keep when ether is sent from it."""

from __future__ import annotations

from sqlalchemy import func, select

from hessian.identifiers import Wei
from hessian.postgres.session import Session
from hessian.service import transfers
from hessian.service.transfers import Funds, TransferCreate, TransferRead
from owner_api.promises import lock_wallet, promised_by
from owner_api.states import ApplicationState, EnrollmentState
from owner_api.tables import Application, Enrollment, Owner
from owner_api.world import World

_ENROLLED = [state for state in EnrollmentState if state.is_active]
_APPLYING = [state for state in ApplicationState if state.is_under_way]


async def create(session: Session, world: World, owner: Owner, wanted: TransferCreate, seen: Funds) -> TransferRead:
    """`seen`: what `transfers.look` said. Raises RecipientRefused, NotFree."""
    await lock_wallet(session, owner)
    promised = await promised_by(session, owner, seen.block)
    enrolled = select(func.count()).where(Enrollment.owner_id == owner.id, Enrollment.state.in_(_ENROLLED))
    applying = select(func.count()).where(Application.owner_id == owner.id, Application.state.in_(_APPLYING))
    working = (await session.execute(enrolled)).scalar_one() + (await session.execute(applying)).scalar_one()
    return await transfers.send(
        session,
        world.outbox,
        owner.address,
        wanted,
        seen,
        kept=Wei(promised.total + working * world.settings.gas_reserve_wei),
        what_for=(
            f"bonds ({promised.bonds}), fees ({promised.fees}), what is on its way ({promised.leaving}) "
            f"and the gas of {working} enrolments and applications"
        ),
    )
