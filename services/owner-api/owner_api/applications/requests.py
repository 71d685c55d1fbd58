"""A request as one final block shows it, and the application of this node that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from hessian.chain.blocks import Block
from hessian.chain.deployment import RequestUnknown
from hessian.chain.deployment_records import RequestRecord, RequestState
from hessian.identifiers import RequestId
from hessian.postgres.session import Session
from owner_api.contributions.rounds import NotFinalYet, is_owner
from owner_api.states import ApplicationState
from owner_api.tables import Application, Owner
from owner_api.world import World


@dataclass(frozen=True)
class RequestView:
    """A request at one final block."""

    request_id: RequestId
    block: Block
    request: RequestRecord

    @property
    def deadline_passed(self) -> bool:
        """By the chain's own clock: an answer in a later block would come too late."""
        return self.block.timestamp > self.request.deadline

    @property
    def is_waiting(self) -> bool:
        """Neither answered nor expired."""
        return self.request.state is RequestState.WAITING


async def view_request(world: World, request_id: int) -> RequestView:
    """The request at the final block. Raises NotFinalYet, ChainUnavailable."""
    final = await world.chain.final_block()
    try:
        return RequestView(RequestId(request_id), final, await world.deployment.request(RequestId(request_id), final))
    except RequestUnknown as error:
        raise NotFinalYet(f"the final block {final.number} does not show request {request_id} yet") from error


async def application_of(session: Session, world: World, view: RequestView) -> Application | None:
    """The application, locked, that made this request; None when it is not this node's.

    Raises NotFinalYet where the final block shows a request that the outbox has not booked.
    """
    wanted = select(Application).where(Application.contract == world.deployment.address, Application.request_id == view.request_id)
    found = (await session.execute(wanted.with_for_update())).scalar_one_or_none()
    if found is not None or not await is_owner(session, view.request.requester):
        return found
    requesting = (
        select(Application.id)
        .join(Owner, Owner.id == Application.owner_id)
        .where(
            Owner.address == view.request.requester,
            Application.state == ApplicationState.REQUESTING,
            Application.query_digest == view.request.query_digest,
        )
    )
    if (await session.execute(requesting)).first() is not None:
        raise NotFinalYet(f"request {view.request_id} is made, but not booked yet")
    return None
