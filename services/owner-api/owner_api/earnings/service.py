"""What was earned, and fetching it."""

from __future__ import annotations

import uuid

import structlog
from sqlalchemy import exists, func, select

from hessian.chain.blocks import Receipt
from hessian.chain.events import Withdrawn, decode_all
from hessian.errors import Conflict, NotFound
from hessian.identifiers import Wei
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from hessian.privacy.accounting import epsilon_of
from hessian.privacy.requirement import in_words
from owner_api.earnings.schemas import EarnedByModel, EarningsRead, LineagePrivacy
from owner_api.releases import spent_by_lineage
from owner_api.states import ContributionState
from owner_api.tables import Contribution, OutgoingTransaction, Owner, Withdrawal
from owner_api.world import World

log = structlog.get_logger()
WITHDRAW = "withdraw"
_OPEN = [state for state in TransactionState if not state.is_settled]


class NothingToWithdraw(Conflict):
    """The contract owes this owner nothing at the final block."""


class WithdrawalUnderWay(Conflict):
    """A withdrawal of this owner is under way: it fetches everything."""


class WithdrawalNotFound(NotFound):
    """There is no such withdrawal of this owner."""


async def earnings(session: Session, world: World, owner: Owner) -> EarningsRead:
    """Balance at the head, credit at the final block, rewards by model."""
    grouped = (
        select(Contribution.model_id, func.count(), func.sum(Contribution.earned))
        .where(Contribution.owner_id == owner.id, Contribution.state == ContributionState.SETTLED)
        .group_by(Contribution.model_id)
        .order_by(Contribution.model_id)
    )
    models = [
        EarnedByModel(model_id=model_id, rounds=rounds, earned_wei=int(earned))
        for model_id, rounds, earned in await session.execute(grouped)
    ]
    return EarningsRead(
        address=owner.address,
        balance_wei=await world.chain.balance(owner.address, await world.chain.head_block()),
        credit_wei=await world.repository.credit_of(owner.address, await world.chain.final_block()),
        earned_wei=sum(model.earned_wei for model in models),
        models=models,
        privacy=[
            LineagePrivacy(
                lineage=lineage,
                releases=len(rhos),
                epsilon=in_words(epsilon_of(rhos, world.settings.delta)),
                delta=in_words(world.settings.delta),
                epsilon_cap=in_words(world.settings.epsilon_cap),
            )
            for lineage, rhos in (await spent_by_lineage(session, owner.id)).items()
        ],
    )


async def withdraw(session: Session, world: World, owner: Owner) -> tuple[Withdrawal, OutgoingTransaction]:
    """Ask the contract for everything it owes. Raises NothingToWithdraw, WithdrawalUnderWay."""
    await session.execute(select(Owner.id).where(Owner.id == owner.id).with_for_update())
    busy = exists().where(
        OutgoingTransaction.sender == owner.address, OutgoingTransaction.purpose == WITHDRAW, OutgoingTransaction.state.in_(_OPEN)
    )
    if (await session.execute(select(busy))).scalar_one():
        raise WithdrawalUnderWay
    if not await world.repository.credit_of(owner.address, await world.chain.final_block()):
        raise NothingToWithdraw
    identity = uuid.uuid4()
    transaction = await world.outbox.enqueue(
        session,
        business_key=f"{WITHDRAW}:{identity}",
        sender=owner.address,
        call=world.repository.withdraw(),
        purpose=WITHDRAW,
        subject=str(identity),
    )
    withdrawal = Withdrawal(id=identity, owner_id=owner.id, outbox_id=transaction.id)
    session.add(withdrawal)
    await session.flush()
    await session.refresh(withdrawal)
    log.info("withdrawal_enqueued", withdrawal_id=str(identity), owner_id=str(owner.id))
    return withdrawal, transaction


async def find(session: Session, owner: Owner, withdrawal_id: uuid.UUID) -> tuple[Withdrawal, OutgoingTransaction]:
    """A withdrawal of this owner and its transaction. Raises WithdrawalNotFound."""
    wanted = (
        select(Withdrawal, OutgoingTransaction)
        .join(OutgoingTransaction, OutgoingTransaction.id == Withdrawal.outbox_id)
        .where(Withdrawal.id == withdrawal_id, Withdrawal.owner_id == owner.id)
    )
    found = (await session.execute(wanted)).first()
    if found is None:
        raise WithdrawalNotFound
    return found[0], found[1]


async def on_withdrawal_settled(world: World, session: Session, row: OutgoingTransaction, receipt: Receipt | None) -> None:
    """Outbox handler: note what the contract paid, by its own event."""
    withdrawal = await session.get_one(Withdrawal, uuid.UUID(row.subject), with_for_update=True)
    if row.state is TransactionState.FINAL and receipt is not None:
        events = decode_all(receipt.logs, world.repository.address)
        withdrawal.amount = Wei(sum(event.amount for event in events if isinstance(event, Withdrawn) and event.account == row.sender))
    log.info("withdrawal_settled", withdrawal_id=row.subject, state=row.state.value, amount=withdrawal.amount)
