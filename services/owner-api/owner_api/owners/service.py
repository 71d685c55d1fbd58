"""Making owners and finding them."""

from __future__ import annotations

import uuid

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from hessian.errors import Conflict, NotFound
from hessian.postgres.session import Session
from hessian.service.tokens import new_token, token_hash
from owner_api.owners.schemas import OwnerCreate
from owner_api.owners.wallets import Wallets
from owner_api.tables import Owner

log = structlog.get_logger()


class OwnerUnknown(NotFound):
    """There is no such owner on this node."""


class OwnerNameTaken(Conflict):
    """There is an owner of this name on this node."""


async def create(session: Session, wallets: Wallets, wanted: OwnerCreate) -> tuple[Owner, str]:
    """A new owner with a wallet and a token; the token exists nowhere else. Raises OwnerNameTaken."""
    taken = select(func.count()).select_from(Owner).where(Owner.name == wanted.name)
    if (await session.execute(taken)).scalar_one():  # before the key: scrypt is slow on purpose
        raise OwnerNameTaken
    address, keystore = await wallets.create()
    token = new_token()
    owner = Owner(name=wanted.name, address=address, keystore=keystore, token_hash=token_hash(token))
    session.add(owner)
    try:
        await session.flush()
    except IntegrityError as error:  # two requests with one name at once
        raise OwnerNameTaken from error
    await session.refresh(owner)
    return owner, token


async def replace_token(session: Session, owner_id: uuid.UUID) -> tuple[Owner, str]:
    """A new token for an owner, which exists nowhere else; the old one opens nothing from the commit on. Raises OwnerUnknown."""
    wanted = select(Owner).where(Owner.id == owner_id).with_for_update(key_share=True)  # an upload of this owner is no reason to wait
    owner = (await session.execute(wanted)).scalar_one_or_none()
    if owner is None:
        raise OwnerUnknown
    token = new_token()
    owner.token_hash = token_hash(token)
    await session.flush()
    log.warning("owner_token_replaced", owner_id=str(owner_id))
    return owner, token


async def page(session: Session, after: int, limit: int) -> list[Owner]:
    """Owners in order of creation, one more than `limit` where there are more."""
    rows = await session.execute(select(Owner).where(Owner.number > after).order_by(Owner.number).limit(limit + 1))
    return list(rows.scalars())
