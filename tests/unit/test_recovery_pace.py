"""How often recovery asks: the chain for every block once, whoever does not answer ever more rarely."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hessian.chain.blocks import Block, BlockHash, EventPlace, TransactionHash
from hessian.chain.client import LARGEST_WINDOW
from hessian.chain.events import CohortClosed, RepositoryEvent, RoundSettled
from hessian.chain.records import ModelState
from hessian.chain.repository import ModelRepository
from hessian.errors import ChainUnavailable, DatabaseUnavailable
from hessian.identifiers import BlockNumber, CohortId, ErrorUnits, ModelId, RoundId, Timestamp, Wei, digest_of
from lender_api.rounds import recovery
from lender_api.rounds.recovery import catch_up_all
from lender_api.rounds.settlements import Settlements
from lender_api.world import World

FIRST = BlockNumber(7)
HASH = BlockHash("0x" + "01" * 32)


def block(number: int) -> Block:
    return Block(BlockNumber(number), HASH, HASH, Timestamp(1))


def place(number: int) -> EventPlace:
    return EventPlace(BlockNumber(number), HASH, 0, TransactionHash(HASH), Timestamp(1))


def settled(number: int, *, model: int = 1) -> RoundSettled:
    digest = digest_of(b"x")
    return RoundSettled(
        place=place(number),
        round_id=RoundId(number),
        model_id=ModelId(model),
        cohort_id=CohortId(1),
        new_error=ErrorUnits(1),
        new_weights_digest=digest,
        report_digest=digest,
        reward=Wei(0),
        pool=Wei(0),
        model_state=ModelState.OPEN,
    )


class Told:
    """A repository with these events, that writes down what it is asked; from `silent_from` on it does not answer."""

    def __init__(self, *events: RepositoryEvent) -> None:
        self.told = list(events)
        self.asked: list[tuple[int, int]] = []
        self.silent_from = 10**9

    async def events(self, first: BlockNumber, last: BlockNumber) -> list[RepositoryEvent]:
        if last >= self.silent_from:
            raise ChainUnavailable
        self.asked.append((first, last))
        return [event for event in self.told if first <= event.place.block_number <= last]


async def rounds(settlements: Settlements, repository: Told, number: int) -> list[int]:
    found = await settlements.until(cast(ModelRepository, repository), block(number))
    return [event.round_id for event in found]


async def test_until__asked_again__reads_the_new_blocks_alone() -> None:
    repository, settlements = Told(settled(8), settled(9, model=2), settled(20)), Settlements(ModelId(1), FIRST)
    repository.told.append(CohortClosed(place=place(21), model_id=ModelId(1), cohort_id=CohortId(1)))
    assert [await rounds(settlements, repository, number) for number in (19, 19, 22)] == [[8], [8], [8, 20]]
    assert repository.asked == [(7, 19), (20, 22)]


async def test_until__node_fails_in_a_long_history__what_was_read_stays_read() -> None:
    repository, settlements = Told(settled(8)), Settlements(ModelId(1), FIRST)
    end = FIRST + 2 * LARGEST_WINDOW
    repository.silent_from = end
    with pytest.raises(ChainUnavailable):
        await rounds(settlements, repository, end)
    repository.silent_from += 1
    assert await rounds(settlements, repository, end) == [8]
    assert repository.asked == [(7, 2006), (2007, 4006), (4007, 4007)]


async def test_until__node_that_is_behind__tells_what_that_block_knew() -> None:
    repository, settlements = Told(settled(8), settled(20)), Settlements(ModelId(1), FIRST)
    assert [await rounds(settlements, repository, number) for number in (20, 15, 20)] == [[8, 20], [8], [8, 20]]
    assert repository.asked == [(7, 20)]


async def test_forget__after_a_node_left_something_out__reads_it_all_again() -> None:
    repository, settlements = Told(), Settlements(ModelId(1), FIRST)
    assert await rounds(settlements, repository, 10) == []
    repository.told = [settled(8)]
    settlements.forget()
    assert await rounds(settlements, repository, 10) == [8]


async def test_catch_up_all__nobody_answers__waits_longer_and_longer_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, attempts = asyncio.Event(), 0

    class Silent:
        def begin(self) -> Any:
            nonlocal attempts
            attempts += 1
            if attempts == 5:
                stop.set()
            raise DatabaseUnavailable

    class Alone:
        database = Silent()

    monkeypatch.setattr(recovery, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(recovery, "LONGEST_SECONDS", 0.03)
    with capture_logs() as lines:
        await catch_up_all(cast(World, Alone()), stop)
    assert [line["seconds"] for line in lines] == [0.01, 0.02, 0.03, 0.03, 0.03]
