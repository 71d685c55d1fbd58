"""Follows final blocks. One transaction holds the cursor's step, the events, the projection and the jobs they ask for, or none of it.

Only final blocks are read, so nothing is ever rolled back; a final block that changes stops the process. The node is
asked before the transaction begins: the cursor's lock is never held across the network.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from coordinator import queue, repository
from coordinator.correlation import subject_of
from coordinator.jobs import JobSpec, Service, delay
from coordinator.planner import plan, plan_deadlines, plan_retreats
from coordinator.projection import fold
from hessian.chain.blocks import Block, BlockHash
from hessian.chain.events import RepositoryEvent
from hessian.chain.repository import ModelRepository
from hessian.errors import ChainDiverged, ChainUnavailable, Unavailable
from hessian.identifiers import BlockNumber, Timestamp
from hessian.postgres.engine import Database
from hessian.postgres.session import Session

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Position:
    """The last block done."""

    number: BlockNumber
    hash: BlockHash
    timestamp: Timestamp


class Watcher:
    """One contract's follower. Several may run on one database: the cursor's row lock lets one advance at a time."""

    def __init__(
        self,
        database: Database,
        contract: ModelRepository,
        services: frozenset[Service],
        *,
        start: BlockNumber,
        range_limit: int,
        poll_seconds: float,
    ) -> None:
        """`services` are the neighbours that jobs can be sent to; `start` is the first block that may hold an event."""
        self._database = database
        self._contract = contract
        self._chain = contract.chain
        self._services = services
        self._start = start
        self._range_limit = range_limit
        self._poll_seconds = poll_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. What is unavailable is waited for; anything else ends the process: Violated says that a human must look."""
        failures = 0
        while not stop.is_set():
            try:
                is_behind = await self.step()
                failures = 0
                pause = 0.0 if is_behind else self._poll_seconds
            except Unavailable as error:
                failures += 1
                pause = delay(failures)
                log.warning("watcher_waits", reason=type(error).__name__, detail=error.sentence, seconds=pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()

    async def step(self) -> bool:
        """Read the next range of final blocks, if there is one. True when there is more to read at once.

        Raises ChainDiverged, Undecodable or HistoryBroken (Violated), and Unavailable.
        """
        final = await self._chain.final_block()
        position = await self._position(final)
        if final.number <= position.number:
            await self._require_same(final, position)
            return False
        last_number = min(final.number, position.number + self._range_limit)
        first = await self._chain.block(BlockNumber(position.number + 1))
        if first.parent_hash != position.hash:
            raise ChainDiverged(
                f"block {position.number} was final as {position.hash}, but block {first.number} follows {first.parent_hash}:"
                " finality was broken"
            )
        last = final if last_number == final.number else await self._chain.block(BlockNumber(last_number))
        events = await self._contract.events(first.number, last.number)
        head = await self._chain.head_block()
        async with self._database.begin() as session:
            cursor = await repository.read_cursor(session, lock=True)
            if cursor is None or cursor.block_hash != position.hash:
                return True  # another coordinator was faster
            await self._apply(session, position, first, last, events, head.timestamp)
        for event in events:
            log.info("event_done", correlation_id=subject_of(event), kind=event.kind, block=event.place.block_number)
        return last.number < final.number

    async def _apply(
        self, session: Session, position: Position, first: Block, last: Block, events: list[RepositoryEvent], now: Timestamp
    ) -> None:
        """`now` is the head's time. Of the head nothing else counts: a leave has to be mined before the deadline, not to be final."""
        jobs: list[JobSpec] = []
        for event in events:
            model_id = await repository.model_of(session, event)
            before = await repository.load_for(session, event, model_id)
            after = fold(before, event)
            if after is not None:
                await repository.save_model(session, before, after)
            await repository.store_event(session, event, model_id)
            jobs += plan(event, after)
        overdue = await repository.passed_deadlines(session, position.timestamp, last.timestamp)
        jobs += plan_deadlines(overdue, last.timestamp)
        jobs += plan_retreats(await repository.awaiting_submissions(session), now)
        planned = await queue.plan_jobs(session, [job for job in jobs if job.needs <= self._services])
        await repository.advance_cursor(session, first, last, len(events))
        if events or planned:
            kinds = [event.kind for event in events]
            log.info("blocks_done", first=first.number, last=last.number, events=kinds, jobs=len(planned))

    async def _position(self, final: Block) -> Position:
        """Where the cursor stands; it is founded before the first block that may hold an event. Raises OtherContractFollowed."""
        async with self._database.begin() as session:
            cursor = await repository.read_cursor(session)
        if cursor is None:
            start = await self._chain.block(BlockNumber(max(self._start - 1, 0)))
            if start.number > final.number:
                raise ChainUnavailable(f"block {start.number}, where the contract begins, is not final yet")
            async with self._database.begin() as session:
                cursor = await repository.found_cursor(session, self._chain.chain_id, self._contract.address, start)
        repository.require_followed(cursor, self._chain.chain_id, self._contract.address)
        return Position(BlockNumber(cursor.block_number), BlockHash(cursor.block_hash), Timestamp(cursor.timestamp))

    async def _require_same(self, final: Block, position: Position) -> None:
        """What was final once must be final now; a node that has not come as far is only behind."""
        if final.number < position.number:
            raise ChainUnavailable(
                f"the Ethereum node is behind: its final block is {final.number}, block {position.number} was final before"
            )
        if final.hash != position.hash:
            await self._chain.require_canonical(Block(position.number, position.hash, BlockHash(""), position.timestamp))
