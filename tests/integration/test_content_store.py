"""One suite for every content store: memory, the embedded block store through the Kubo client, and Kubo itself where it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from devstack.processes import Child, answers, free_port, wait_until
from hessian.errors import IpfsUnavailable
from hessian.identifiers import Digest, digest_of
from hessian.ipfs.cid import cid_of
from hessian.ipfs.kubo import connect_store
from hessian.ipfs.store import LARGEST_ARTIFACT, ArtifactTooLarge, BytesDiffer, ContentMissing, ContentStore
from hessian.testing import MemoryStore

KUBO = shutil.which("ipfs")


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real daemon that talks to nobody."""
    home, port = tmp_path_factory.mktemp("kubo"), free_port()
    environment = {**os.environ, "IPFS_PATH": str(home)}

    def ipfs(*arguments: str) -> None:
        subprocess.run([str(KUBO), *arguments], env=environment, check=True, capture_output=True)

    ipfs("init", "--profile=test")
    ipfs("config", "Addresses.API", f"/ip4/127.0.0.1/tcp/{port}")
    ipfs("config", "--json", "Addresses.Gateway", "[]")
    child = Child("kubo", ["env", f"IPFS_PATH={home}", str(KUBO), "daemon", "--offline"], home / "log")
    child.start()
    wait_until(lambda: answers("127.0.0.1", port), child, seconds=60.0)
    yield f"http://127.0.0.1:{port}"
    child.stop()


@pytest.fixture(params=["memory", "embedded", pytest.param("kubo", marks=pytest.mark.skipif(KUBO is None, reason="no ipfs on the PATH"))])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ContentStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("block_store" if request.param == "embedded" else "kubo")
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


async def test_get__memory_was_spoilt__bytes_are_not_returned() -> None:
    store = MemoryStore()
    digest = await store.put(b"right")
    store.blocks[cid_of(digest)] = b"wrong"
    with pytest.raises(BytesDiffer):
        await store.get(digest)


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
