"""One suite for every content store: memory, the embedded block store through the Kubo client, and Kubo itself where it is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import psutil
import pytest
from aiohttp import web

from devstack.kubo import Kubo, kubo_binary
from devstack.processes import free_port
from hessian.errors import IpfsUnavailable
from hessian.identifiers import Digest, digest_of
from hessian.ipfs.audit import Audit, Copies, CopySpoilt, audit, keep_pinned
from hessian.ipfs.cid import cid_of
from hessian.ipfs.kubo import connect_store
from hessian.ipfs.store import LARGEST_ARTIFACT, ArtifactTooLarge, BytesDiffer, ContentMissing, ContentStore
from hessian.testing import MemoryStore

KUBO = kubo_binary()
NO_KUBO = pytest.mark.skipif(KUBO is None, reason="no Kubo: run `make kubo` (it needs Go), or put `ipfs` on the PATH")


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubo]:
    """A real daemon that talks to nobody."""
    assert KUBO is not None
    home = tmp_path_factory.mktemp("kubo")
    node = Kubo(KUBO, home / "repository", home / "log")
    node.start()
    yield node
    node.stop()


@pytest.fixture(params=["memory", "embedded", pytest.param("kubo", marks=NO_KUBO)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ContentStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("block_store") if request.param == "embedded" else request.getfixturevalue("kubo").url
    async with connect_store(url, call_seconds=5.0) as connected:
        yield connected


async def test_get__what_was_put__comes_back(store: ContentStore) -> None:
    await store.check()
    for data in (b"", b"x", os.urandom(300_000)):
        digest = await store.put(data)
        assert digest == digest_of(data)
        assert await store.get(digest) == data


async def test_put__exactly_one_mebibyte__is_one_block(store: ContentStore) -> None:
    data = os.urandom(LARGEST_ARTIFACT)
    assert await store.get(await store.put(data)) == data


async def test_put__one_byte_more__is_refused_before_it_leaves(store: ContentStore) -> None:
    data = os.urandom(LARGEST_ARTIFACT + 1)
    with pytest.raises(ArtifactTooLarge):
        await store.put(data)
    with pytest.raises(IpfsUnavailable):
        await store.get(digest_of(data))


async def test_put__same_bytes_twice__have_one_name(store: ContentStore) -> None:
    data = os.urandom(100)
    assert await store.put(data) == await store.put(data)


async def test_put__many_at_once__all_come_back(store: ContentStore) -> None:
    contents = [os.urandom(10_000) for _ in range(20)]
    digests = await asyncio.gather(*(store.put(data) for data in contents))
    assert await asyncio.gather(*(store.get(digest) for digest in digests)) == contents


async def test_get__content_nobody_has__is_missing(store: ContentStore) -> None:
    with pytest.raises(ContentMissing):
        await store.get(digest_of(os.urandom(32)))


async def test_is_pinned__put_then_unpinned_twice__follows(store: ContentStore) -> None:
    digest = await store.put(os.urandom(64))
    assert await store.is_pinned(digest)
    await store.unpin(digest)
    assert not await store.is_pinned(digest)
    await store.unpin(digest)
    assert not await store.is_pinned(digest_of(b"never put" + os.urandom(8)))


@NO_KUBO
async def test_garbage_collection__on_the_real_node__takes_what_is_not_pinned_and_nothing_else(kubo: Kubo) -> None:
    async with connect_store(kubo.url, call_seconds=5.0) as store:
        kept, dropped = await store.put(os.urandom(LARGEST_ARTIFACT)), await store.put(os.urandom(10_000))
        await store.unpin(dropped)
        kubo.collect_garbage()
        assert digest_of(await store.get(kept)) == kept
        assert await store.is_pinned(kept)
        with pytest.raises(ContentMissing):
            await store.get(dropped)


@NO_KUBO
async def test_audit__after_a_lost_pin_and_garbage_collection__publishes_the_nodes_own_copy_again(kubo: Kubo) -> None:
    kept = MemoryCopies()
    async with connect_store(kubo.url, call_seconds=5.0) as store:
        lost, pinned = [await store.put(kept.keep(os.urandom(5_000))) for _ in range(2)]
        await store.unpin(lost)
        kubo.collect_garbage()
        assert await audit(store, kept) == Audit(checked=2, restored=1)
        assert await store.get(lost) == kept.contents[lost]
        assert await store.is_pinned(lost)
        assert await audit(store, kept) == Audit(checked=2, restored=0)
        assert await store.is_pinned(pinned)


@NO_KUBO
def test_rpc__of_the_real_node__listens_on_loopback_alone(kubo: Kubo) -> None:
    listening = {address.laddr.ip for address in psutil.Process(kubo.child.pid).net_connections("inet") if address.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


async def test_audit__every_store__restores_what_is_missing(store: ContentStore) -> None:
    kept = MemoryCopies()
    digests = [await store.put(kept.keep(os.urandom(1_000))) for _ in range(3)]
    await store.unpin(digests[1])
    never_published = digest_of(kept.keep(os.urandom(1_000)))
    assert await audit(store, kept) == Audit(checked=4, restored=2)
    assert await store.get(never_published) == kept.contents[never_published]
    assert await store.is_pinned(digests[1])


async def test_audit__a_copy_that_is_not_what_was_anchored__stops_loudly_and_is_not_published() -> None:
    kept, store = MemoryCopies(), MemoryStore()
    kept.contents[digest_of(b"anchored")] = b"something else"
    with pytest.raises(CopySpoilt):
        await audit(store, kept)
    assert store.blocks == {}


async def test_audit__content_erased_while_it_is_published__is_unpinned_again() -> None:
    kept = MemoryCopies()
    digest = digest_of(kept.keep(b"anchored"))

    class Slow(MemoryStore):
        async def _put(self, data: bytes) -> str:
            kept.contents.clear()  # erased and unpinned, in this order, before the node has it
            await self.unpin(digest)
            return await super()._put(data)

    store = Slow()
    assert await audit(store, kept) == Audit(checked=1, restored=0)
    assert not await store.is_pinned(digest)


async def test_keep_pinned__a_node_that_was_away__is_audited_again_until_told_to_stop() -> None:
    kept, stop = MemoryCopies(), asyncio.Event()
    kept.keep(b"anchored")

    class Away(MemoryStore):
        asked = 0

        async def _is_pinned(self, cid: str) -> bool:
            self.asked += 1
            if self.asked == 1:
                raise IpfsUnavailable
            stop.set()
            return await super()._is_pinned(cid)

    store = Away()
    await asyncio.wait_for(keep_pinned(store, kept, stop, every=0.001), 10)
    assert store.asked == 2
    assert await store.is_pinned(digest_of(b"anchored"))


async def test_get__memory_was_spoilt__bytes_are_not_returned() -> None:
    store = MemoryStore()
    digest = await store.put(b"right")
    store.blocks[cid_of(digest)] = b"wrong"
    with pytest.raises(BytesDiffer):
        await store.get(digest)


class MemoryCopies(Copies):
    """What a node's own database would hold."""

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}

    def keep(self, data: bytes) -> bytes:
        self.contents[digest_of(data)] = data
        return data

    async def digests(self) -> list[Digest]:
        return list(self.contents)

    async def content(self, digest: Digest) -> bytes | None:
        return self.contents.get(digest)


@asynccontextmanager
async def node_that(answer: Callable[[web.Request], object]) -> AsyncIterator[str]:
    """Something that listens where an IPFS node should."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = answer(request)
        if asyncio.iscoroutine(response):
            response = await response
        assert isinstance(response, web.StreamResponse)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(10_000):  # 10 GB, if anybody read it
        await response.write(b"\0" * 2**20)
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


OTHER = cid_of(digest_of(b"other"))
ERROR = {"Message": "no space left on device", "Code": 0, "Type": "error"}


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (lambda _: web.Response(body=b"other"), BytesDiffer),
        (lambda _: web.Response(body=b""), BytesDiffer),
        (lambda _: web.Response(status=500, text="{}"), ContentMissing),
        (lambda _: web.Response(status=404), ContentMissing),
        (endless, ArtifactTooLarge),
        (silent, IpfsUnavailable),
    ],
    ids=["other bytes", "nothing", "error", "not found", "endless", "silent"],
)
async def test_get__node_lies_or_fails__is_told_apart_and_nothing_returned(
    answer: Callable[[web.Request], object], refusal: type[Exception]
) -> None:
    async with node_that(answer) as url, connect_store(url, call_seconds=1.0) as store:
        with pytest.raises(refusal):
            await store.get(digest_of(b"right"))


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: web.json_response({"Name": "x", "Hash": OTHER, "Size": "5"}),
        lambda _: web.json_response({"Name": "x"}),
        lambda _: web.json_response([]),
        lambda _: web.json_response(ERROR),
        lambda _: web.json_response(ERROR, status=500),
        lambda _: web.Response(status=403, text="no"),
        lambda _: web.Response(status=500, text="<html>"),
        lambda _: web.Response(text="<html>"),
        lambda _: web.Response(status=404),
        silent,
    ],
    ids=["other name", "no name", "list", "error object", "error status", "forbidden", "html error", "html", "not found", "silent"],
)
async def test_put__node_lies_or_fails__is_unavailable(answer: Callable[[web.Request], object]) -> None:
    async with node_that(answer) as url, connect_store(url, call_seconds=1.0) as store:
        with pytest.raises(IpfsUnavailable):
            await store.put(b"right")
        with pytest.raises(IpfsUnavailable):
            await store.check()
        with pytest.raises(IpfsUnavailable):
            await store.is_pinned(Digest(b"d" * 32))


async def test_any_call__nobody_listens__is_unavailable() -> None:
    async with connect_store(f"http://127.0.0.1:{free_port()}") as store:
        for call in (
            store.put(b"x"),
            store.get(digest_of(b"x")),
            store.is_pinned(digest_of(b"x")),
            store.unpin(digest_of(b"x")),
            store.check(),
        ):
            with pytest.raises(IpfsUnavailable):
                await call
