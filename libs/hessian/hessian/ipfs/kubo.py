"""Kubo's RPC through aioipfs, used only as far as it was found to work: `add_bytes`, `cat`, `pin.ls`, `pin.rm`, `version`.

The embedded block store is a server that speaks the same, so this is the one client of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aioipfs
from aiohttp import ClientError

from hessian.errors import IpfsUnavailable
from hessian.ipfs.store import LARGEST_ARTIFACT, ContentMissing, ContentStore
from hessian.settings import IpfsSettings

CALL_SECONDS = 20.0
"""A block that no peer has is searched for until this ends: Kubo itself would go on for ever."""

_CHUNK = 64 * 1024
_ONE_BLOCK = f"size-{LARGEST_ARTIFACT}"
_OK = 200
AnswerT = TypeVar("AnswerT")


class KuboStore(ContentStore):
    """Content on one Kubo node."""

    def __init__(self, client: aioipfs.AsyncIPFS, *, call_seconds: float = CALL_SECONDS) -> None:
        self._client = client
        self._call_seconds = call_seconds

    async def check(self) -> None:
        """Raises IpfsUnavailable unless the node answers."""
        answer = await self._within(self._client.version())
        if not isinstance(answer, dict) or "Version" not in answer:
            raise IpfsUnavailable("something answers at the IPFS address, but it is no IPFS node")

    async def _put(self, data: bytes) -> str:
        # raw leaves and a chunk as large as an artifact: one raw block, whose CID is its sha2-256
        answer = await self._within(self._client.add_bytes(data, cid_version=1, raw_leaves=True, pin=True, chunker=_ONE_BLOCK))
        if not isinstance(answer, dict) or not isinstance(answer.get("Hash"), str):
            raise IpfsUnavailable("the IPFS node did not say what it stored")
        return str(answer["Hash"])

    async def _get(self, cid: str, limit: int) -> bytes:
        return await self._within(self._cat(cid, limit))

    async def _cat(self, cid: str, limit: int) -> bytes:
        """`cat` on aioipfs's own session, because its `cat` reads whatever comes to the end: here a node is cut off at the limit."""
        parameters = {"arg": cid, "length": str(limit + 1)}
        async with self._client.session.post(self._client.api_endpoint("cat"), params=parameters, auth=self._client.auth) as response:
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                if len(data) > limit:
                    break
            if response.status != _OK:
                raise ContentMissing(f"the IPFS node cannot find {cid}")
        return bytes(data[: limit + 1])

    async def _is_pinned(self, cid: str) -> bool:
        try:
            answer = await self._within(self._client.pin.ls(cid, pintype="recursive"))
        except _NotPinned:
            return False
        keys = answer.get("Keys") if isinstance(answer, dict) else None
        if not isinstance(keys, dict):
            raise IpfsUnavailable("the IPFS node did not list its pins")
        return cid in keys

    async def _unpin(self, cid: str) -> None:
        try:
            await self._within(self._client.pin.rm(cid))
        except _NotPinned:
            return

    async def _within(self, call: Awaitable[AnswerT]) -> AnswerT:
        """Await one call for a limited time, with every foreign failure translated."""
        try:
            async with asyncio.timeout(self._call_seconds):
                answer: Any = await call
        except TimeoutError as error:
            raise IpfsUnavailable(f"the IPFS node did not answer within {self._call_seconds:g} s") from error
        except aioipfs.APIError as error:
            if "not pinned" in str(error.message).lower():
                raise _NotPinned from error
            raise IpfsUnavailable(f"the IPFS node refused: {str(error.message)[:200]}") from error
        except (ClientError, OSError, ValueError, aioipfs.IPFSConnectionError, aioipfs.RPCAccessDenied) as error:
            raise IpfsUnavailable from error
        if answer is None:  # aioipfs turns a lost connection into None
            raise IpfsUnavailable
        if isinstance(answer, dict) and answer.get("Type") == "error":  # and some of the node's errors into answers
            raise IpfsUnavailable(f"the IPFS node refused: {str(answer.get('Message'))[:200]}")
        return answer  # type: ignore[no-any-return]  # foreign until its reader checked it


class _NotPinned(IpfsUnavailable):
    """The node does not keep this content."""


@asynccontextmanager
async def open_store(settings: IpfsSettings) -> AsyncIterator[KuboStore]:
    """Open the client for the life of a service; nothing is asked of the node yet."""
    async with connect_store(str(settings.ipfs_url)) as store:
        yield store


@asynccontextmanager
async def connect_store(url: str, *, call_seconds: float = CALL_SECONDS) -> AsyncIterator[KuboStore]:
    """A store on the node whose RPC listens at `url` (scheme, host and port)."""
    parts = urlsplit(url)
    client = aioipfs.AsyncIPFS(
        host=parts.hostname, port=parts.port or 5001, scheme=parts.scheme, loop=asyncio.get_running_loop(), read_timeout=int(call_seconds)
    )
    try:
        yield KuboStore(client, call_seconds=call_seconds)
    finally:
        await client.close()
