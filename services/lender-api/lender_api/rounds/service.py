"""The lender's part of a round: open, accept, expire. Every call re-reads the chain at the final block and may be repeated.

`evaluate` is in report.py. Nothing here holds a transaction open while it waits for a neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

from hessian.chain.blocks import Block
from hessian.chain.records import CohortRecord, ModelRecord, RoundRecord, RoundState
from hessian.chain.records import ModelState as ChainState
from hessian.chain.repository import CohortUnknown, RoundUnknown
from hessian.cohorts.masks import round_context
from hessian.errors import ChainUnavailable, Violated
from hessian.identifiers import CohortId, RoundId
from hessian.postgres.session import Session
from lender_api.models.service import by_chain_id, manifest_of, take_over
from lender_api.rounds import submissions
from lender_api.rounds.history import remember, spoiled_evaluations
from lender_api.rounds.recovery import catch_up
from lender_api.rounds.schemas import Outcome, done, foreign, pending, refused, superseded
from lender_api.rounds.submissions import SubmissionRefused
from lender_api.sending import is_under_way, send
from lender_api.tables import Model, Round
from lender_api.world import World

OPEN, ACCEPT, REPORT, EXPIRE = "open_round", "accept_submissions", "report_round", "expire_round"

MOST_SPOILED = 2
"""Evaluations of one cohort that may move nothing (PROTOCOL §9): each is paid, and answers on chain one question about the weights."""


class NotYetFinal(ChainUnavailable):
    """The final block does not show yet what was asked for."""


class ContextDiffers(Violated):
    """The contract computes another round context than this software."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A round and what it belongs to, all of one final block."""

    block: Block
    round_id: RoundId
    round: RoundRecord
    cohort: CohortRecord
    model: ModelRecord


async def open_round(world: World, cohort_id: CohortId) -> Outcome:
    """Open a sealed cohort's next round. Raises NotYetFinal, ChainUnavailable, and what `catch_up` raises."""
    block = await world.chain.final_block()
    try:
        cohort = await world.repository.cohort(cohort_id, block)
    except CohortUnknown as error:
        raise NotYetFinal(f"the final block {block.number} does not show cohort {cohort_id} yet") from error
    record = await world.repository.model(cohort.model_id, block)
    if record.lender != world.keys.address:
        return foreign()
    await catch_up(world, cohort.model_id, block, record)
    async with world.database.begin() as session:
        model = await by_chain_id(session, cohort.model_id)
        if model is None:
            return foreign(f"model {cohort.model_id} is not in this database")
        take_over(model, record)
        if obstacle := _obstacle(cohort_id, cohort, record):
            return obstacle
        intent = f"open:{cohort_id}:{record.rounds_paid}"
        if await is_under_way(session, purpose=OPEN, subject=str(cohort.model_id), besides=intent):
            return pending(f"another round of model {cohort.model_id} is being opened")
        await send(session, world, intent=intent, call=world.repository.open_round(cohort_id), purpose=OPEN, subject=str(cohort.model_id))
    return pending()


def _obstacle(cohort_id: CohortId, cohort: CohortRecord, model: ModelRecord) -> Outcome | None:
    if model.state is not ChainState.OPEN:
        return superseded(f"model {cohort.model_id} is {model.state.name.lower()}")
    if cohort.round_in_flight:
        return done(f"round {cohort.round_in_flight} is open")
    if cohort.is_closed:
        return superseded(f"cohort {cohort_id} is closed")
    if not cohort.is_sealed:
        return pending(f"cohort {cohort_id} is not sealed at this final block")
    if model.round_in_flight:
        return superseded(f"round {model.round_in_flight} of another cohort is in flight")
    return None


async def accept(world: World, round_id: RoundId) -> Outcome:
    """Fetch, check and keep every artifact, then say so on chain. Raises NotYetFinal, IpfsUnavailable, ChainUnavailable."""
    seen = await see(world, round_id)
    if seen.model.lender != world.keys.address:
        return foreign()
    if seen.round.state is RoundState.SUBMITTING:
        raise NotYetFinal(f"round {round_id} is still submitting at final block {seen.block.number}")
    if seen.round.state in (RoundState.UNLOCKING, RoundState.EVALUATING, RoundState.SETTLED):
        return done(f"round {round_id} is accepted")
    if seen.round.state is not RoundState.ACCEPTING:
        return superseded(f"round {round_id} is {seen.round.state.name.lower()}")
    if seen.block.timestamp > seen.round.deadline:
        return superseded(f"the accept window of round {round_id} ended at {seen.round.deadline}")
    context = await context_of(world, seen)
    async with world.database.begin() as session:
        found = await own_rows(session, seen)
        if found is None:
            return foreign(f"model {seen.round.model_id} is not in this database")
        if await spoiled_evaluations(session, seen.round.cohort_id) >= MOST_SPOILED:
            # refused here and not when it is opened: only a round that fails closes the cohort, and lets the next one have its turn
            found[1].reason = f"{MOST_SPOILED} rounds of cohort {seen.round.cohort_id} moved nothing: its submissions are not opened again"
            return refused(found[1].reason)
        manifest = await manifest_of(session, world, found[0])
        kept = await submissions.kept(session, round_id, seen.round)
    try:
        contents = await submissions.gather(world, manifest, context, seen.round, kept)
    except SubmissionRefused as error:
        async with world.database.begin() as session:
            found = await own_rows(session, seen)
            if found is not None:
                found[1].reason = error.sentence
        return refused(error.sentence)
    async with world.database.begin() as session:
        await submissions.keep(session, round_id, seen.round, contents)
        call = world.repository.accept_submissions(round_id)
        await send(session, world, intent=f"accept:{round_id}", call=call, purpose=ACCEPT, subject=str(round_id))
    return pending()


async def expire(world: World, round_id: RoundId) -> Outcome:
    """End a round whose deadline has passed. Raises NotYetFinal, IpfsUnavailable, ChainUnavailable."""
    seen = await see(world, round_id)
    if seen.model.lender != world.keys.address:
        return foreign()
    if not seen.round.state.is_in_flight:
        return done(f"round {round_id} is {seen.round.state.name.lower()}")
    if seen.block.timestamp <= seen.round.deadline:
        raise NotYetFinal(f"round {round_id} has until {seen.round.deadline}, the final block is of {seen.block.timestamp}")
    async with world.database.begin() as session:
        if await own_rows(session, seen) is None:
            return foreign(f"model {seen.round.model_id} is not in this database")
        call = world.repository.expire_round(round_id)
        intent = f"expire:{round_id}:{seen.round.state.name.lower()}"
        await send(session, world, intent=intent, call=call, purpose=EXPIRE, subject=str(round_id))
    return pending()


async def see(world: World, round_id: RoundId) -> Seen:
    """Read a round, its cohort and its model at one final block; our rows know every round settled by then.

    Raises NotYetFinal, ChainUnavailable, and what `catch_up` raises.
    """
    block = await world.chain.final_block()
    try:
        record = await world.repository.round(round_id, block)
    except RoundUnknown as error:
        raise NotYetFinal(f"the final block {block.number} does not show round {round_id} yet") from error
    cohort = await world.repository.cohort(record.cohort_id, block)
    model = await world.repository.model(record.model_id, block)
    await catch_up(world, record.model_id, block, model)
    return Seen(block, round_id, record, cohort, model)


async def context_of(world: World, seen: Seen) -> bytes:
    """The round context, computed here and compared with the contract's. Raises ContextDiffers."""
    context = round_context(
        world.chain.chain_id,
        world.repository.address,
        seen.round.model_id,
        seen.round.cohort_id,
        seen.round_id,
        seen.round.weights_digest,
        seen.cohort.members_hash,
    )
    if context != await world.repository.context_of(seen.round_id, seen.block):
        raise ContextDiffers
    return context


async def own_rows(session: Session, seen: Seen) -> tuple[Model, Round] | None:
    """Our rows of a round; None when this database does not know the model."""
    model = await by_chain_id(session, seen.round.model_id)
    if model is None:
        return None
    take_over(model, seen.model)
    return model, await remember(session, model, seen.round_id, seen.round, seen.cohort)
