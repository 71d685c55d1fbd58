"""`/v1/earnings` and `/v1/withdrawals`."""

from __future__ import annotations

import uuid
from http import HTTPStatus

from fastapi import APIRouter

from hessian.errors import ChainUnavailable
from hessian.postgres.idempotency import IdempotencyKeyReused, given, once
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from owner_api.auth import CallingOwner
from owner_api.earnings import service
from owner_api.earnings.schemas import Debtor, EarningsRead, WithdrawalRead
from owner_api.earnings.service import NothingToWithdraw, WithdrawalNotFound, WithdrawalUnderWay
from owner_api.tables import Answer
from owner_api.world import TheWorld

router = APIRouter(route_class=StrictJsonRoute)


@router.get("/earnings", tags=["earnings"], summary="Show what was earned", responses=refusals(ChainUnavailable))
async def show(world: TheWorld, session: Transaction, owner: CallingOwner) -> EarningsRead:
    """The calling owner's wallet, its credits in the contracts, and its rewards by model."""
    return await service.earnings(session, world, owner)


@router.post(
    "/withdrawals",
    tags=["withdrawals"],
    status_code=HTTPStatus.ACCEPTED,
    summary="Withdraw every credit of a contract",
    responses=refusals(NothingToWithdraw, WithdrawalUnderWay, IdempotencyKeyReused, ChainUnavailable),
)
async def create(
    world: TheWorld, session: Transaction, owner: CallingOwner, key: IdempotencyKey, contract: Debtor = Debtor.REPOSITORY
) -> WithdrawalRead:
    """From one of the two contracts into the wallet."""
    request = "POST /v1/withdrawals" + ("" if contract is Debtor.REPOSITORY else f"?contract={contract}")
    if known := await given(world.database, Answer, caller=str(owner.id), key=key, request=request, answer_type=WithdrawalRead):
        return known
    owed = await service.credit(world, owner, contract)

    async def act() -> WithdrawalRead:
        return WithdrawalRead.of(*await service.withdraw(session, world, owner, contract, owed), contract)

    return await once(session, Answer, caller=str(owner.id), key=key, request=request, answer_type=WithdrawalRead, act=act)


@router.get("/withdrawals/{withdrawal_id}", tags=["withdrawals"], summary="Show a withdrawal", responses=refusals(WithdrawalNotFound))
async def read(world: TheWorld, session: Transaction, owner: CallingOwner, withdrawal_id: uuid.UUID) -> WithdrawalRead:
    """Follow it until its state is `final` or `failed`."""
    row, transaction = await service.find(session, owner, withdrawal_id)
    return WithdrawalRead.of(row, transaction, service.debtor_of(world, transaction))
