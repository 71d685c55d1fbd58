"""What was earned, and fetching it."""

from __future__ import annotations

import uuid

import structlog
from sqlalchemy import exists, func, select

from hessian.chain import deployment_events, events
from hessian.chain.blocks import Receipt
from hessian.chain.deployment import ModelDeployment
from hessian.chain.repository import ModelRepository
from hessian.errors import Conflict, NotFound
from hessian.identifiers import Wei
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from hessian.privacy.accounting import epsilon_of
from hessian.privacy.requirement import in_words
from owner_api.earnings.schemas import Debtor, EarnedByModel, EarningsRead, LineagePrivacy
from owner_api.promises import lock_wallet
from owner_api.releases import spent_by_lineage
from owner_api.states import ContributionState
from owner_api.tables import Contribution, OutgoingTransaction, Owner, Withdrawal
from owner_api.world import World

log = structlog.get_logger()
WITHDRAW = "withdraw"
_OPEN = [state for state in TransactionState if not state.is_settled]


class NothingToWithdraw(Conflict):
    """This contract owes this owner nothing at the final block."""


class WithdrawalUnderWay(Conflict):
    """A withdrawal of this owner from this contract is under way: it fetches everything."""


class WithdrawalNotFound(NotFound):
    """There is no such withdrawal of this owner."""


async def earnings(session: Session, world: World, owner: Owner) -> EarningsRead:
    """Balance at the head, credits at the final block, rewards by model. The chain first: no connection waits for it."""
    final = await world.chain.final_block()
    balance = await world.chain.balance(owner.address, await world.chain.head_block())
    credits = await world.repository.credit_of(owner.address, final), await world.deployment.credit_of(owner.address, final)
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
        balance_wei=balance,
        credit_wei=credits[0],
        fees_credit_wei=credits[1],
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


async def credit(world: World, owner: Owner, debtor: Debtor) -> Wei:
    """What a contract owes this owner at the final block. The caller holds no session."""
    return await _contract(world, debtor).credit_of(owner.address, await world.chain.final_block())


async def withdraw(session: Session, world: World, owner: Owner, debtor: Debtor, owed: Wei) -> tuple[Withdrawal, OutgoingTransaction]:
    """Ask a contract for everything it owes, as `credit` said. Raises NothingToWithdraw, WithdrawalUnderWay."""
    contract = _contract(world, debtor)
    await lock_wallet(session, owner)
    row = OutgoingTransaction
    busy = exists().where(row.sender == owner.address, row.to == contract.address, row.purpose == WITHDRAW, row.state.in_(_OPEN))
    if (await session.execute(select(busy))).scalar_one():
        raise WithdrawalUnderWay
    if not owed:
        raise NothingToWithdraw
    identity = uuid.uuid4()
    transaction = await world.outbox.enqueue(
        session,
        business_key=f"{WITHDRAW}:{identity}",
        sender=owner.address,
        call=contract.withdraw(),
        purpose=WITHDRAW,
        subject=str(identity),
    )
    withdrawal = Withdrawal(id=identity, owner_id=owner.id, outbox_id=transaction.id)
    session.add(withdrawal)
    await session.flush()
    await session.refresh(withdrawal)
    log.info("withdrawal_enqueued", withdrawal_id=str(identity), owner_id=str(owner.id), contract=debtor.value)
    return withdrawal, transaction


def _contract(world: World, debtor: Debtor) -> ModelRepository | ModelDeployment:
    return world.deployment if debtor is Debtor.DEPLOYMENT else world.repository


def debtor_of(world: World, transaction: OutgoingTransaction) -> Debtor:
    """The contract a withdrawal asked."""
    return Debtor.DEPLOYMENT if transaction.to == world.deployment.address else Debtor.REPOSITORY


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
    """Outbox handler: note what a contract paid, by its own event."""
    withdrawal = await session.get_one(Withdrawal, uuid.UUID(row.subject), with_for_update=True)
    if row.state is TransactionState.FINAL and receipt is not None:
        said = [*world.repository.events_of(receipt), *world.deployment.events_of(receipt)]
        paid = [event for event in said if isinstance(event, events.Withdrawn | deployment_events.Withdrawn)]
        withdrawal.amount = Wei(sum(event.amount for event in paid if event.account == row.sender))
    log.info("withdrawal_settled", withdrawal_id=row.subject, state=row.state.value, amount=withdrawal.amount)
