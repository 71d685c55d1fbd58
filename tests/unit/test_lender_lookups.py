"""Looking up queries: who gets a place, how long it is held, and how long a request waits whose query nobody has."""

from __future__ import annotations

import asyncio

import pytest

from hessian.chain.deployment_records import RequestRecord, RequestState
from hessian.errors import IpfsUnavailable
from hessian.identifiers import Address, DeploymentId, Digest, RequestId, Timestamp, digest_of
from hessian.ipfs.store import ContentMissing, ContentStore
from lender_api.requests.lookups import (
    FIRST_SECONDS,
    LONGEST_SECONDS,
    PAUSE_FACTOR,
    PLACES,
    REPEATED_PLACES,
    LookupRefused,
    Lookups,
    QueryNotFound,
)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowStore(ContentStore):
    """Finds nothing but what it holds, and takes `seconds` of the clock for that; waits while `gate` is closed."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.held, self.looked = clock, 2.0, dict[str, bytes](), 0
        self.lookups = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: type[IpfsUnavailable] = ContentMissing

    async def begun(self, lookups: int) -> None:
        """Wait until so many more have begun."""
        for _ in range(lookups):
            await self.lookups.acquire()

    async def check(self) -> None:
        return

    async def _put(self, data: bytes) -> str:
        raise NotImplementedError

    async def _get(self, cid: str, limit: int) -> bytes:
        self.looked += 1
        self.lookups.release()
        await self.gate.wait()
        self.clock.now += self.seconds
        if self.held:
            return next(iter(self.held.values()))
        raise self.error

    async def _is_pinned(self, cid: str) -> bool:
        raise NotImplementedError

    async def _unpin(self, cid: str) -> None:
        raise NotImplementedError


def request(account: int) -> RequestRecord:
    """Of one account."""
    address, nothing = Address(f"0x{account:040x}"), Digest(bytes(32))
    return RequestRecord(DeploymentId(1), address, RequestState.WAITING, Timestamp(1_000), digest_of(b"query"), nothing)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def missed(lookups: Lookups, store: SlowStore, number: int) -> None:
    with pytest.raises(QueryNotFound):
        await lookups.get(store, RequestId(number), request(number))


async def test_get__query_that_nobody_has__pauses_in_proportion_before_the_next_lookup(clock: Clock) -> None:
    lookups, store = Lookups(clock), SlowStore(clock)
    for seconds in (2.0, 4.0, 16.0):
        store.seconds, looked = seconds, store.looked
        await missed(lookups, store, 1)
        clock.now += PAUSE_FACTOR * seconds - 1
        with pytest.raises(LookupRefused, match="looked up again in 1 s"):
            await lookups.get(store, RequestId(1), request(1))
        assert store.looked == looked + 1
        clock.now += 1
    store.held["query"] = b"query"
    assert await lookups.get(store, RequestId(1), request(1)) == b"query"


async def test_get__lookup_without_an_end__is_cut_off_and_given_longer_the_next_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups, store = Lookups(clock), SlowStore(clock)
    store.gate.clear()
    allowed: list[float | None] = []

    def at_once(seconds: float | None) -> asyncio.Timeout:
        allowed.append(seconds)
        return asyncio.Timeout(asyncio.get_running_loop().time())

    monkeypatch.setattr(asyncio, "timeout", at_once)
    for _ in range(5):
        await missed(lookups, store, 1)
        clock.now += 1_000
    assert allowed == [FIRST_SECONDS, 4.0, 8.0, LONGEST_SECONDS, LONGEST_SECONDS]


async def test_get__node_that_does_not_answer__is_nobodys_fault(clock: Clock) -> None:
    lookups, store = Lookups(clock), SlowStore(clock)
    store.error = IpfsUnavailable
    for _ in range(2):
        with pytest.raises(IpfsUnavailable) as refusal:
            await lookups.get(store, RequestId(1), request(1))
        assert refusal.type is IpfsUnavailable


async def test_get__repeated_lookups__leave_places_for_first_ones(clock: Clock) -> None:
    lookups, store = Lookups(clock), SlowStore(clock)
    bad = range(1, REPEATED_PLACES + 2)
    for number in bad:
        await missed(lookups, store, number)
    clock.now += 1_000
    store.gate.clear()
    store.held["query"] = b"query"
    await store.begun(len(bad))
    async with asyncio.TaskGroup() as tasks:
        under_way = [tasks.create_task(lookups.get(store, RequestId(number), request(number))) for number in bad[:-1]]
        await store.begun(REPEATED_PLACES)
        with pytest.raises(LookupRefused):
            await lookups.get(store, RequestId(bad[-1]), request(bad[-1]))
        first = range(100, 100 + PLACES - REPEATED_PLACES)
        under_way += [tasks.create_task(lookups.get(store, RequestId(number), request(number))) for number in first]
        await store.begun(PLACES - REPEATED_PLACES)
        for number, account in ((200, 200), (201, 100)):  # no place is free; and this account has one
            with pytest.raises(LookupRefused):
                await lookups.get(store, RequestId(number), request(account))
        store.gate.set()
    assert [task.result() for task in under_way] == [b"query"] * PLACES


async def test_forget__request_that_is_over__may_begin_anew(clock: Clock) -> None:
    lookups, store = Lookups(clock), SlowStore(clock)
    await missed(lookups, store, 1)
    lookups.forget(RequestId(1))
    await missed(lookups, store, 1)
    assert store.looked == 2
