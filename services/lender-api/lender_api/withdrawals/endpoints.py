"""`/v1/wallet` and `/v1/withdrawals`."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Depends

from hessian.postgres.idempotency import IdempotencyKeyReused, once
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction
from lender_api.tables import IdempotentAnswer
from lender_api.withdrawals import service
from lender_api.withdrawals.schemas import Debtor, WalletRead, WithdrawalRead
from lender_api.withdrawals.service import NothingToWithdraw, WithdrawalUnderway, WithdrawalUnknown
from lender_api.world import TheWorld

router = APIRouter(tags=["wallet"], route_class=StrictJsonRoute, dependencies=[Depends(requires("admin"))])


@router.get("/wallet", summary="The lender's wallet")
async def wallet(world: TheWorld) -> WalletRead:
    """Address, balance and credits at the final block."""
    return await service.wallet(world)


@router.post(
    "/withdrawals",
    status_code=HTTPStatus.ACCEPTED,
    responses=refusals(NothingToWithdraw, WithdrawalUnderway, IdempotencyKeyReused),
    summary="Withdraw the credit of a contract",
)
async def withdraw(session: Transaction, world: TheWorld, key: IdempotencyKey, contract: Debtor = Debtor.REPOSITORY) -> WithdrawalRead:
    """Send a contract's whole credit for this wallet to the wallet."""
    return await once(
        session,
        IdempotentAnswer,
        caller="admin",
        key=key,
        request="POST /v1/withdrawals" + ("" if contract is Debtor.REPOSITORY else f"?contract={contract}"),
        answer_type=WithdrawalRead,
        act=lambda: service.create(session, world, contract),
    )


@router.get("/withdrawals/{id}", responses=refusals(WithdrawalUnknown), summary="Follow a withdrawal")
async def show(session: Transaction, world: TheWorld, id: UUID) -> WithdrawalRead:  # the path's own word
    """Where the transaction stands."""
    return await service.get(session, world, id)
