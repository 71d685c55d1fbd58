"""Who calls: an owner with its own token, or a role of the node. An owner's token is stored as its hash alone.

A guard is the handler's argument, so that a signature says who may call. What belongs to another owner does not exist for the caller: 404.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select

from hessian.errors import NotPermitted, Unauthenticated
from hessian.service.tokens import BearerToken, requires, token_hash
from owner_api.tables import Owner

AdminOnly = Depends(requires("admin"))
CoordinatorOnly = Depends(requires("coordinator"))
TrainerOnly = Depends(requires("trainer"))


async def calling_owner(request: Request, token: BearerToken) -> Owner:
    """The owner whose token this is. Its own short transaction: a long upload holds none.

    Raises Unauthenticated for an unknown token, NotPermitted for a token of the node (which is no owner).
    """
    async with request.state.database.begin() as session:
        owner: Owner | None = (await session.execute(select(Owner).where(Owner.token_hash == token_hash(token)))).scalar_one_or_none()
    if owner is not None:
        return owner
    if request.state.node_tokens.role_of(token) is not None:
        raise NotPermitted("this needs an owner's own token")
    raise Unauthenticated("this token is not known here")


CallingOwner = Annotated[Owner, Depends(calling_owner)]


async def owner_or_admin(request: Request, token: BearerToken) -> None:
    """For what every owner of the node may read. Raises Unauthenticated, NotPermitted."""
    role = request.state.node_tokens.role_of(token)
    if role == "admin":
        return
    await calling_owner(request, token)


AnyReader = Depends(owner_or_admin)
