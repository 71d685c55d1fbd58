"""When a model has ended: take over how, and fetch the rest of the escrow. Also what the outbox tells about creating and closing."""

from __future__ import annotations

import uuid

from sqlalchemy import select

from hessian.chain.blocks import Receipt
from hessian.chain.events import ModelClosed, ModelCreated, decode_all
from hessian.chain.records import ModelState as ChainState
from hessian.chain.repository import ModelUnknown
from hessian.errors import ChainUnavailable, Violated
from hessian.identifiers import ModelId
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from lender_api import tables
from lender_api.models.service import by_chain_id, send_close, take_over
from lender_api.models.states import ModelState, follow_chain, move_to
from lender_api.rounds.recovery import catch_up
from lender_api.rounds.schemas import Outcome, done, foreign, pending
from lender_api.tables import Model
from lender_api.world import World


class EventMissing(Violated):
    """A transaction succeeded without the event that it must emit."""


async def conclude(world: World, model_id: ModelId) -> Outcome:
    """Idempotent. Raises ChainUnavailable, and what `catch_up` raises."""
    block = await world.chain.final_block()
    try:
        record = await world.repository.model(model_id, block)
    except ModelUnknown as error:
        raise ChainUnavailable(f"the final block {block.number} does not show model {model_id} yet") from error
    if record.lender != world.keys.address:
        return foreign()
    await catch_up(world, model_id, block, record)
    async with world.database.begin() as session:
        model = await by_chain_id(session, model_id)
        if model is None:
            return foreign(f"model {model_id} was not created by this database")
        take_over(model, record)
        if record.state is ChainState.OPEN:
            return pending(f"model {model_id} is open at this final block")
        if record.is_closed:
            return done()
        if record.round_in_flight:
            return pending(f"round {record.round_in_flight} of model {model_id} is still in flight")
        await send_close(session, world, model)
    return pending()


async def on_created(session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: the model has its number, or never will."""
    model = await _of(session, row)
    if receipt is None or row.state is not TransactionState.FINAL:
        move_to(model, ModelState.FAILED, f"the model could not be created on chain: {row.failure}")
        return
    created = next((event for event in decode_all(receipt.logs, row.to) if isinstance(event, ModelCreated)), None)
    if created is None:
        raise EventMissing("createModel emitted no ModelCreated")
    model.model_id = created.model_id
    move_to(model, ModelState.OPEN)


async def on_closed(session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: what closing gave back. A refused closing changes nothing; it may be asked for again."""
    if receipt is None or row.state is not TransactionState.FINAL:
        return
    model = await _of(session, row)
    for event in decode_all(receipt.logs, row.to):
        if isinstance(event, ModelClosed):
            model.is_closed, model.refund_wei = True, event.refund
            follow_chain(model, event.state)


async def _of(session: Session, row: tables.Outbox) -> Model:
    return (await session.execute(select(Model).where(Model.id == uuid.UUID(row.subject)).with_for_update())).scalar_one()
