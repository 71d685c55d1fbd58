"""Follows final blocks of both contracts. One transaction holds the cursor's step, the events, the projection and the jobs they ask for,
or none of it.

Only final blocks are read, so nothing is ever rolled back; a final block that changes stops the process. The node is
asked before the transaction begins: the cursor's lock is never held across the network.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from coordinator import queue, repository, serving, serving_repository
from coordinator.correlation import subject_of
from coordinator.jobs import JobSpec, Service, delay
from coordinator.planner import plan, plan_deadlines, plan_retreats
from coordinator.projection import HistoryBroken, fold
from hessian.chain.blocks import Block, BlockHash
from hessian.chain.contract_events import ContractEvent
from hessian.chain.contracts import Contracts
from hessian.chain.deployment_events import DeploymentEvent
from hessian.chain.events import RepositoryEvent
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
    """Several may run on one database: the cursor's row lock lets one advance at a time."""

    def __init__(
        self,
        database: Database,
        contracts: Contracts,
        services: frozenset[Service],
        *,
        start: BlockNumber,
        range_limit: int,
        poll_seconds: float,
    ) -> None:
        """`services` are the neighbours that jobs can be sent to; `start` is the first block that may hold an event."""
        self._database = database
        self._contracts = contracts
        self._chain = contracts.repository.chain
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
        events = await self._events(first.number, last.number)
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
        self, session: Session, position: Position, first: Block, last: Block, events: list[ContractEvent], now: Timestamp
    ) -> None:
        """`now` is the head's time. Of the head nothing else counts: a leave has to be mined before the deadline, not to be final."""
        jobs: list[JobSpec] = []
        for event in events:
            jobs += await _take_in(session, event)
        overdue = await repository.passed_deadlines(session, position.timestamp, last.timestamp)
        jobs += plan_deadlines(overdue, last.timestamp)
        jobs += serving.plan_refunds(await serving_repository.passed_deadlines(session, position.timestamp, last.timestamp))
        jobs += plan_retreats(await repository.awaiting_submissions(session), now)
        planned = await self._plan(session, jobs)
        await repository.advance_cursor(session, first, last, len(events))
        if events or planned:
            kinds = [event.kind for event in events]
            log.info("blocks_done", first=first.number, last=last.number, events=kinds, jobs=len(planned))

    async def _plan(self, session: Session, jobs: list[JobSpec]) -> list[int]:
        return await queue.plan_jobs(session, [job for job in jobs if job.needs <= self._services])

    async def _events(self, first: BlockNumber, last: BlockNumber) -> list[ContractEvent]:
        """What both contracts said in these blocks, in the chain's order: a block's logs are numbered over all contracts."""
        training, served = await asyncio.gather(
            self._contracts.repository.events(first, last), self._contracts.deployment.events(first, last)
        )
        return sorted([*training, *served], key=lambda event: (event.place.block_number, event.place.log_index))

    async def _adopt(self, position: Position) -> None:
        """A cursor from before there was a serving contract goes on; what that contract said up to it is taken in first, all at once."""
        address = self._contracts.deployment.address
        events = await self._contracts.deployment.events(self._start, position.number)
        async with self._database.begin() as session:
            cursor = await repository.read_cursor(session, lock=True)
            if cursor is None or cursor.deployment_address is not None or cursor.block_hash != position.hash:
                return  # another coordinator was faster
            jobs = [job for event in events for job in await _take_in(session, event)]
            jobs += serving.plan_refunds(await serving_repository.passed_deadlines(session, Timestamp(0), position.timestamp))
            planned = await self._plan(session, jobs)
            await repository.adopt_deployment(session, address)
        log.info("serving_contract_adopted", address=address, events=len(events), jobs=len(planned), block=position.number)

    async def _position(self, final: Block) -> Position:
        """Where the cursor stands; it is founded before the first block that may hold an event. Raises OtherContractFollowed."""
        async with self._database.begin() as session:
            cursor = await repository.read_cursor(session)
        if cursor is None:
            start = await self._chain.block(BlockNumber(max(self._start - 1, 0)))
            if start.number > final.number:
                raise ChainUnavailable(f"block {start.number}, where the contracts begin, is not final yet")
            async with self._database.begin() as session:
                addresses = self._contracts.repository.address, self._contracts.deployment.address
                cursor = await repository.found_cursor(session, self._chain.chain_id, *addresses, start)
        repository.require_followed(cursor, self._contracts)
        position = Position(BlockNumber(cursor.block_number), BlockHash(cursor.block_hash), Timestamp(cursor.timestamp))
        if cursor.deployment_address is None:
            await self._adopt(position)
        return position

    async def _require_same(self, final: Block, position: Position) -> None:
        """What was final once must be final now; a node that has not come as far is only behind."""
        if final.number < position.number:
            raise ChainUnavailable(
                f"the Ethereum node is behind: its final block is {final.number}, block {position.number} was final before"
            )
        if final.hash != position.hash:
            await self._chain.require_canonical(Block(position.number, position.hash, BlockHash(""), position.timestamp))


async def _take_in(session: Session, event: ContractEvent) -> list[JobSpec]:
    """Store an event and what it changes; the jobs that it asks for. Raises HistoryBroken."""
    if isinstance(event, DeploymentEvent):
        return await _take_in_serving(session, event)
    if not isinstance(event, RepositoryEvent):
        raise HistoryBroken(f"{event.kind} is an event of neither contract")
    model_id = await repository.model_of(session, event)
    before = await repository.load_for(session, event, model_id)
    after = fold(before, event)
    if after is not None:
        await repository.save_model(session, before, after)
    await repository.store_event(session, "ModelRepository", event, model_id=model_id)
    return plan(event, after)


async def _take_in_serving(session: Session, event: DeploymentEvent) -> list[JobSpec]:
    before = await serving_repository.load_for(session, event)
    after = serving.fold(before, event)
    subjects: dict[str, int] = {}
    if after is not None:
        await serving_repository.save(session, before, after)
        subjects = {"model_id": after.deployment.model_id, "deployment_id": after.deployment.deployment_id}
    await repository.store_event(session, "ModelDeployment", event, **subjects)
    return serving.plan(event, after)
