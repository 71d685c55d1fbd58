"""Taking credits out of the two contracts (pull payments only, PROTOCOL §6)."""

from __future__ import annotations

import uuid

from sqlalchemy import select

from hessian.chain import deployment_events, events
from hessian.chain.blocks import Receipt
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.errors import Conflict, NotFound
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from lender_api import tables
from lender_api.tables import Withdrawal
from lender_api.withdrawals.schemas import Debtor, WalletRead, WithdrawalRead
from lender_api.world import World

PURPOSE = "withdraw"


class WithdrawalUnknown(NotFound):
    """There is no such withdrawal."""


class NothingToWithdraw(Conflict):
    """This contract holds no credit for this wallet."""


class WithdrawalUnderway(Conflict):
    """An earlier withdrawal from this contract is still on its way; it takes the whole credit."""


async def wallet(world: World) -> WalletRead:
    """Balance and credits, all of the same final block."""
    block = await world.chain.final_block()
    address = world.keys.address
    return WalletRead(
        address=address,
        balance_wei=await world.chain.balance(address, block),
        credit_wei=await world.repository.credit_of(address, block),
        fees_credit_wei=await world.deployment.credit_of(address, block),
    )


async def create(session: Session, world: World, debtor: Debtor) -> WithdrawalRead:
    """Withdraw the whole credit of a contract. Raises NothingToWithdraw, WithdrawalUnderway."""
    contract: ModelRepository | ModelDeployment = world.deployment if debtor is Debtor.DEPLOYMENT else world.repository
    row = tables.Outbox
    open_states = [state for state in TransactionState if not state.is_settled]
    underway = select(row.id).where(row.purpose == PURPOSE, row.to == contract.address, row.state.in_(open_states))
    if (await session.execute(underway.limit(1))).first() is not None:
        raise WithdrawalUnderway
    credit = await contract.credit_of(world.keys.address, await world.chain.final_block())
    if credit == 0:
        raise NothingToWithdraw
    withdrawal = Withdrawal(id=uuid.uuid4(), amount=credit)
    sent = await world.outbox.enqueue(
        session,
        business_key=f"withdraw:{withdrawal.id}",
        sender=world.keys.address,
        call=contract.withdraw(),
        purpose=PURPOSE,
        subject=str(withdrawal.id),
    )
    withdrawal.outbox_id = sent.id
    session.add(withdrawal)
    await session.flush()
    return await get(session, world, withdrawal.id)


async def get(session: Session, world: World, identity: uuid.UUID) -> WithdrawalRead:
    """Raises WithdrawalUnknown."""
    query = select(Withdrawal, tables.Outbox).join(tables.Outbox, Withdrawal.outbox_id == tables.Outbox.id).where(Withdrawal.id == identity)
    found = (await session.execute(query)).one_or_none()
    if found is None:
        raise WithdrawalUnknown
    withdrawal, sent = found
    await session.refresh(withdrawal)
    return WithdrawalRead(
        id=withdrawal.id,
        contract=Debtor.DEPLOYMENT if sent.to == world.deployment.address else Debtor.REPOSITORY,
        state=sent.state.value,
        amount_wei=withdrawal.amount,
        transaction_hash=sent.transaction_hash,
        reason=sent.failure,
        created_at=withdrawal.created_at,
    )


async def on_withdrawn(world: World, session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: note what really came out; the credit may have grown in between."""
    if receipt is None or row.state is not TransactionState.FINAL:
        return
    withdrawal = (await session.execute(select(Withdrawal).where(Withdrawal.id == uuid.UUID(row.subject)))).scalar_one()
    for said in [*world.repository.events_of(receipt), *world.deployment.events_of(receipt)]:
        if isinstance(said, events.Withdrawn | deployment_events.Withdrawn):
            withdrawal.amount = said.amount
