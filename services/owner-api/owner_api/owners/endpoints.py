"""`/v1/owners`: the node's administrator makes owners; an owner sees itself."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends

from hessian.errors import ChainUnavailable
from hessian.identifiers import Wei
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import Page, PageLimit, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from owner_api.auth import AdminOnly, CallingOwner
from owner_api.owners import service
from owner_api.owners.schemas import OwnerCreate, OwnerCreated, OwnerRead
from owner_api.owners.service import OwnerNameTaken, OwnerUnknown
from owner_api.paging import cut
from owner_api.tables import Owner
from owner_api.world import TheWorld, World

router = APIRouter(route_class=StrictJsonRoute, prefix="/owners", tags=["owners"])


@router.post("", status_code=HTTPStatus.CREATED, summary="Make an owner", dependencies=[AdminOnly], responses=refusals(OwnerNameTaken))
async def create(world: TheWorld, session: Transaction, wanted: OwnerCreate) -> OwnerCreated:
    """A new data owner with a wallet of its own, made with the node's admin token; the wallet needs ether before it enrols.

    The owner's own token is in this answer and nowhere else: datasets, enrolments, earnings and withdrawals take that one.
    """
    owner, token = await service.create(session, world.wallets, wanted)
    return OwnerCreated(**OwnerRead.model_validate(owner).model_dump(), token=token)


@router.post(
    "/{owner_id}/token",
    status_code=HTTPStatus.CREATED,
    summary="Replace an owner's token",
    dependencies=[AdminOnly],
    responses=refusals(OwnerUnknown),
)
async def replace_token(session: Transaction, owner_id: uuid.UUID) -> OwnerCreated:
    """For a token that was lost or seen by others, made with the node's admin token. The old one is refused from this answer on.

    The new token is in this answer and nowhere else; asked again, there is another one.
    """
    owner, token = await service.replace_token(session, owner_id)
    return OwnerCreated(**OwnerRead.model_validate(owner).model_dump(), token=token)


@router.get("", summary="List owners", dependencies=[AdminOnly], responses=refusals(ChainUnavailable))
async def page(world: TheWorld, session: Transaction, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50) -> Page[OwnerRead]:
    """Every owner with its wallet's balance."""
    owners = await service.page(session, after, limit)
    balances = {owner.id: await _balance(world, owner) for owner in owners[:limit]}
    return cut(owners, limit, lambda owner: _read(owner, balances[owner.id]))


@router.get("/me", summary="Show the calling owner", responses=refusals(ChainUnavailable))
async def me(world: TheWorld, owner: CallingOwner) -> OwnerRead:
    """The owner whose token this is."""
    return _read(owner, await _balance(world, owner))


async def _balance(world: World, owner: Owner) -> Wei:
    return await world.chain.balance(owner.address, await world.chain.head_block())


def _read(owner: Owner, balance: Wei) -> OwnerRead:
    return OwnerRead.model_validate(owner).model_copy(update={"balance_wei": balance})
