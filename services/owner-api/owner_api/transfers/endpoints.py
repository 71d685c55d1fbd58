"""`/v1/transfers`: ether from an owner's wallet to an account elsewhere."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends

from hessian.errors import ChainUnavailable
from hessian.postgres.idempotency import IdempotencyKeyReused, given, once
from hessian.service import transfers
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import IdempotencyKey, Page, PageLimit, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from hessian.service.transfers import NotFree, RecipientRefused, TransferCreate, TransferRead, TransferUnknown
from owner_api.auth import CallingOwner
from owner_api.tables import Answer, OutgoingTransaction
from owner_api.transfers import service
from owner_api.world import TheWorld

router = APIRouter(route_class=StrictJsonRoute, prefix="/transfers", tags=["transfers"])


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Send ether from the wallet",
    responses=refusals(RecipientRefused, NotFree, IdempotencyKeyReused, ChainUnavailable),
)
async def create(world: TheWorld, session: Transaction, owner: CallingOwner, key: IdempotencyKey, wanted: TransferCreate) -> TransferRead:
    """Exactly so many wei to an ordinary account. Bonds and fees still to be paid, and gas for what is open, stay in the wallet.

    What the contracts owe is no part of it: withdraw it first.
    """
    request = wanted.canonical()
    if known := await given(world.database, Answer, caller=str(owner.id), key=key, request=request, answer_type=TransferRead):
        return known
    seen = await transfers.look(world.chain, owner.address, wanted)

    async def act() -> TransferRead:
        return await service.create(session, world, owner, wanted, seen)

    return await once(session, Answer, caller=str(owner.id), key=key, request=request, answer_type=TransferRead, act=act)


@router.get("", summary="List transfers")
async def page(
    session: Transaction, owner: CallingOwner, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[TransferRead]:
    """Every transfer out of the calling owner's wallet, in order."""
    return await transfers.page(session, OutgoingTransaction, owner.address, after=after, limit=limit)


@router.get("/{transfer_id}", summary="Show a transfer", responses=refusals(TransferUnknown))
async def read(session: Transaction, owner: CallingOwner, transfer_id: uuid.UUID) -> TransferRead:
    """Follow it until its state is `final` or `failed`."""
    return await transfers.find(session, OutgoingTransaction, owner.address, transfer_id)
