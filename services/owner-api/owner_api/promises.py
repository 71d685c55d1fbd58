"""What an owner's wallet has promised: bonds, fees and ether on its way, which whatever is decided next must leave in it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import String, cast, func, or_, select

from hessian.chain.blocks import Block
from hessian.identifiers import Wei
from hessian.postgres.session import Session
from hessian.service import transfers
from owner_api.catalogue.service import terms_of
from owner_api.enrollments.joining import JOIN
from owner_api.states import ApplicationState, EnrollmentState
from owner_api.tables import Application, CatalogueModel, Enrollment, OutgoingTransaction, Owner

_JOIN_NOT_FINAL = (EnrollmentState.MEASURING, EnrollmentState.JOINING)


@dataclass(frozen=True)
class Promised:
    """`bonds` of joins, `fees` of requests that are still to be sent, and what is `leaving` with transactions."""

    bonds: Wei
    fees: Wei
    leaving: Wei

    @property
    def total(self) -> Wei:
        """All of it."""
        return Wei(self.bonds + self.fees + self.leaving)

    @property
    def aside(self) -> str:
        """For a sentence about a balance; nothing when nothing is promised."""
        return f", {self.total} wei of it promised to enrolments, applications and transfers on their way" if self.total else ""


async def lock_wallet(session: Session, owner: Owner) -> None:
    """Until the transaction's end nobody else promises anything out of this owner's wallet, or decides about its limits.

    Not against a foreign key: an upload holds the row by one for as long as its fingerprints are written.
    """
    await session.execute(select(Owner.id).where(Owner.id == owner.id).with_for_update(key_share=True))


async def promised_by(session: Session, owner: Owner, at: Block) -> Promised:
    """All that the wallet's balance at a block still holds and has to keep. The caller holds `lock_wallet`.

    States before the outbox: what goes from the one to the other meanwhile is counted twice and not left out.
    """
    bonds, fees = await _bonds(session, owner, at), await _fees(session, owner)
    return Promised(bonds, fees, await transfers.promised(session, OutgoingTransaction, owner.address, at, besides=(JOIN,)))


async def _bonds(session: Session, owner: Owner, at: Block) -> Wei:
    """Of joins that are not final, though the balance may be without the bond of one that is mined: it may have been reverted, and the next
    one needs the bond again. And of those that were mined after the block."""
    row = OutgoingTransaction
    since = select(row.subject).where(row.sender == owner.address, row.purpose == JOIN, row.block_number > at.number)
    wanted = (
        select(CatalogueModel)
        .join(Enrollment, Enrollment.model_id == CatalogueModel.model_id)
        .where(Enrollment.owner_id == owner.id, or_(Enrollment.state.in_(_JOIN_NOT_FINAL), cast(Enrollment.id, String).in_(since)))
    )
    return Wei(sum(terms_of(model).member_bond for model in (await session.execute(wanted)).scalars()))


async def _fees(session: Session, owner: Owner) -> Wei:
    """Of requests that the outbox does not have yet."""
    wanted = select(func.sum(Application.fee)).where(Application.owner_id == owner.id, Application.state == ApplicationState.PREPARING)
    return Wei(int((await session.execute(wanted)).scalar_one() or 0))
