"""`/v1/transfers`: ether from the lender's wallet to an account elsewhere."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from hessian.errors import ChainUnavailable
from hessian.postgres.idempotency import IdempotencyKeyReused, given, once
from hessian.service import transfers
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey, Page, PageLimit, page_after
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction
from hessian.service.transfers import NotFree, RecipientRefused, TransferCreate, TransferRead, TransferUnknown
from lender_api.tables import IdempotentAnswer, Outbox
from lender_api.transfers import service
from lender_api.world import TheWorld

router = APIRouter(prefix="/transfers", tags=["transfers"], route_class=StrictJsonRoute, dependencies=[Depends(requires("admin"))])


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    responses=refusals(RecipientRefused, NotFree, IdempotencyKeyReused, ChainUnavailable),
    summary="Send ether from the wallet",
)
async def create(session: Transaction, world: TheWorld, key: IdempotencyKey, wanted: TransferCreate) -> TransferRead:
    """Exactly so many wei to an ordinary account. Escrows on their way and gas for what is open stay in the wallet.

    What the contracts owe is no part of it: withdraw it first.
    """
    request = wanted.canonical()
    if known := await given(world.database, IdempotentAnswer, caller="admin", key=key, request=request, answer_type=TransferRead):
        return known
    seen = await transfers.look(world.chain, world.keys.address, wanted)

    async def act() -> TransferRead:
        return await service.create(session, world, wanted, seen)

    return await once(session, IdempotentAnswer, caller="admin", key=key, request=request, answer_type=TransferRead, act=act)


@router.get("", summary="List transfers")
async def page(
    session: Transaction, world: TheWorld, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[TransferRead]:
    """Every transfer out of the wallet, in order."""
    return await transfers.page(session, Outbox, world.keys.address, after=after, limit=limit)


@router.get("/{id}", responses=refusals(TransferUnknown), summary="Follow a transfer")
async def show(session: Transaction, world: TheWorld, id: UUID) -> TransferRead:  # the path's own word
    """Its end is `final`, or `failed` with a reason."""
    return await transfers.find(session, Outbox, world.keys.address, id)
