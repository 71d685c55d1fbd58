"""The rows of rounds: made when a round is seen, brought in step with the chain, told to the lender."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from hessian.chain.blocks import Block, Receipt
from hessian.chain.events import RoundDefaulted, RoundOpened, RoundSettled, decode_all
from hessian.chain.records import CohortRecord, RoundRecord, RoundState
from hessian.chain.repository import RoundUnknown
from hessian.errors import ChainUnavailable, KeyLost
from hessian.identifiers import CohortId, Digest, RoundId
from hessian.learning.descent import Answered
from hessian.outbox.tables import TransactionState
from hessian.postgres.session import Session
from hessian.service.fields import Page, next_cursor
from lender_api import tables
from lender_api.models.service import by_chain_id, take_over
from lender_api.rounds.schemas import RoundRead
from lender_api.tables import Model, Round, Weights
from lender_api.world import World

_IN_FLIGHT = [state.name.lower() for state in RoundState if state.is_in_flight]


async def remember(session: Session, model: Model, round_id: RoundId, record: RoundRecord, cohort: CohortRecord) -> Round:
    """The row of a round, made on first sight and brought up to `record`; locked. Raises KeyLost when its weights are not ours."""
    base = await weights_of(session, model, record.weights_digest)
    await session.execute(
        insert(Round)
        .values(
            round_id=round_id,
            model=model.id,
            cohort_id=record.cohort_id,
            state=record.state.name.lower(),
            members=len(cohort.members),
            rows=cohort.total_rows,
            weights_digest=record.weights_digest,
            error_before=base.error,
        )
        .on_conflict_do_nothing(index_elements=["round_id"])
    )
    row = (await session.execute(select(Round).where(Round.round_id == round_id).with_for_update())).scalar_one()
    follow(row, record)
    return row


def follow(row: Round, record: RoundRecord) -> None:
    """Take over what the contract says; an older block changes nothing."""
    if record.state.name.lower() in _IN_FLIGHT and row.state not in _IN_FLIGHT:
        return
    row.state, row.submitted, row.unlocked = record.state.name.lower(), record.submitted, record.unlocked


async def weights_of(session: Session, model: Model, digest: Digest) -> Weights:
    """The weights with this digest. Raises KeyLost: what the chain names as ours must be here."""
    row = await known_weights(session, model, digest)
    if row is None:
        raise KeyLost(f"the chain's weights {digest.hex()} of model {model.model_id} are not in this database: restore it from its backup")
    return row


async def known_weights(session: Session, model: Model, digest: Digest) -> Weights | None:
    """The weights with this digest, None while a restored database does not have them yet."""
    return (await session.execute(select(Weights).where(Weights.model == model.id, Weights.digest == digest))).scalar_one_or_none()


async def spoiled_evaluations(session: Session, cohort_id: CohortId) -> int:
    """How many sums of this cohort were opened and moved nothing: undecodable, or the step was implausible."""
    spoiled = select(func.count()).where(Round.cohort_id == cohort_id, Round.report_digest.is_not(None), Round.reason.is_not(None))
    return (await session.execute(spoiled)).scalar_one()


async def answered_gradients(session: Session, world: World, model: Model, cohort_id: CohortId) -> list[Answered]:
    """What this cohort's sums told so far, oldest first; a round that moved nothing tells nothing. Raises KeyLost."""
    kept = select(Round.round_id, Round.weights_digest, Round.sealed_gradient).where(
        Round.model == model.id, Round.cohort_id == cohort_id, Round.sealed_gradient.is_not(None)
    )
    return [
        (
            world.keys.open_weights(await weights_of(session, model, digest)),
            world.keys.open_gradient(RoundId(round_id), sealed or b""),
        )
        for round_id, digest, sealed in await session.execute(kept.order_by(Round.round_id))
    ]


async def page(session: Session, world: World, model: Model, *, after: int, limit: int) -> Page[RoundRead]:
    """A model's rounds in order. Those in flight are read from the final block first: others may have ended them."""
    query = select(Round).where(Round.model == model.id, Round.number > after).order_by(Round.number).limit(limit + 1)
    rows = list((await session.execute(query)).scalars())
    if any(row.state in _IN_FLIGHT for row in rows):
        block = await world.chain.final_block()
        for row in rows:
            if row.state in _IN_FLIGHT:
                follow(row, await world.repository.round(RoundId(row.round_id), block))
        await session.flush()
    cursor = next_cursor(rows[limit - 1].number) if len(rows) > limit else None
    return Page(items=[RoundRead.model_validate(row) for row in rows[:limit]], next=cursor)


async def on_opened(world: World, session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler: a round has begun. One whose weights are still to be recovered is remembered by the next call about it."""
    if receipt is None or row.state is not TransactionState.FINAL:
        return
    for event in decode_all(receipt.logs, row.to):
        if isinstance(event, RoundOpened):
            model = await by_chain_id(session, event.model_id)
            if model is None:
                continue
            _, record, cohort = await _see(world, event.round_id)
            if await known_weights(session, model, record.weights_digest) is not None:
                await remember(session, model, event.round_id, record, cohort)


async def on_ended(world: World, session: Session, row: tables.Outbox, receipt: Receipt | None) -> None:
    """Outbox handler of reports and expiries: how the round ended, what it paid, and where that leaves the model."""
    if receipt is None or row.state is not TransactionState.FINAL:
        return
    round_id = RoundId(int(row.subject))
    block, record, cohort = await _see(world, round_id)
    model = await by_chain_id(session, record.model_id)
    if model is None:
        return
    ended = await remember(session, model, round_id, record, cohort)
    ended.settled_at = datetime.fromtimestamp(receipt.block.timestamp, UTC)
    for event in decode_all(receipt.logs, row.to):
        if isinstance(event, RoundSettled):
            ended.reward_wei, ended.pool_wei = event.reward, event.pool
        elif isinstance(event, RoundDefaulted):
            ended.pool_wei = event.pool
    take_over(model, await world.repository.model(record.model_id, block))


async def _see(world: World, round_id: RoundId) -> tuple[Block, RoundRecord, CohortRecord]:
    """A round at the final block: not the receipt's, a node forgets the state of old ones. Raises ChainUnavailable."""
    block = await world.chain.final_block()
    try:
        record = await world.repository.round(round_id, block)
    except RoundUnknown as error:
        raise ChainUnavailable(f"the Ethereum node's final block {block.number} is behind the one that named round {round_id}") from error
    return block, record, await world.repository.cohort(record.cohort_id, block)
