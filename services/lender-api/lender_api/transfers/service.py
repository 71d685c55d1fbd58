"""What the lender's wallet must keep when ether is sent from it."""

from __future__ import annotations

from sqlalchemy import func, select

from hessian.identifiers import Wei
from hessian.postgres.session import Session
from hessian.service import transfers
from hessian.service.transfers import Funds, TransferCreate, TransferRead
from lender_api.deployments.states import DeploymentState
from lender_api.models.service import GAS_RESERVE, promised
from lender_api.models.states import ModelState
from lender_api.tables import Deployment, Model
from lender_api.world import World

_OVER = (DeploymentState.RETIRED.value, DeploymentState.FAILED.value)


async def create(session: Session, world: World, wanted: TransferCreate, seen: Funds) -> TransferRead:
    """`seen`: what `transfers.look` said. Raises RecipientRefused, NotFree."""
    leaving = await promised(session, world.keys.address, seen.block)
    models = select(func.count()).where(Model.is_closed.is_(False), Model.state != ModelState.FAILED.value)
    deployments = select(func.count()).where(Deployment.state.not_in(_OVER))
    working = (await session.execute(models)).scalar_one() + (await session.execute(deployments)).scalar_one()
    return await transfers.send(
        session,
        world.outbox,
        world.keys.address,
        wanted,
        seen,
        kept=Wei(leaving + working * GAS_RESERVE),
        what_for=f"what is on its way ({leaving}) and the gas of {working} models and deployments that are not closed",
    )
