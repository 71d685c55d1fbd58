"""The content store: public `put` and `get` verify the digest, whatever node stands behind them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hessian.errors import IpfsUnavailable, TooLarge
from hessian.identifiers import Digest, digest_of
from hessian.ipfs.cid import cid_of
from hessian.metrics import IPFS_BAD

LARGEST_ARTIFACT = 2**20
"""1 MiB: one artifact is one block (PROTOCOL §8)."""


class ArtifactTooLarge(TooLarge):
    """An artifact has at most 1 MiB."""


class ContentMissing(IpfsUnavailable):
    """The IPFS node does not have this content, or cannot find it."""


class BytesDiffer(IpfsUnavailable):
    """The IPFS node sent other bytes than the digest names; they were thrown away."""


class ContentStore(ABC):
    """Blocks of at most 1 MiB, named by their sha2-256. Subclasses move bytes; this class decides what is believed."""

    async def put(self, data: bytes) -> Digest:
        """Publish and pin. Repeatable: the same bytes have the same name. Raises ArtifactTooLarge, IpfsUnavailable, BytesDiffer."""
        if len(data) > LARGEST_ARTIFACT:
            raise ArtifactTooLarge
        digest = digest_of(data)
        cid = await self._put(data)
        if cid != cid_of(digest):
            IPFS_BAD.inc()
            raise BytesDiffer(f"the IPFS node stored {len(data)} bytes as {cid[:80]} instead of {cid_of(digest)}")
        return digest

    async def get(self, digest: Digest) -> bytes:
        """The bytes with this digest. Raises ContentMissing, BytesDiffer, ArtifactTooLarge, IpfsUnavailable."""
        data = await self._get(cid_of(digest), LARGEST_ARTIFACT)
        if len(data) > LARGEST_ARTIFACT:
            raise ArtifactTooLarge(f"the IPFS node sends more than 1 MiB for {cid_of(digest)}")
        if digest_of(data) != digest:
            IPFS_BAD.inc()
            raise BytesDiffer(f"the IPFS node sent other bytes than {cid_of(digest)} names")
        return data

    async def is_pinned(self, digest: Digest) -> bool:
        """Whether this node keeps the content. Raises IpfsUnavailable."""
        return await self._is_pinned(cid_of(digest))

    async def unpin(self, digest: Digest) -> None:
        """Let this node forget the content; nothing happens when it was not pinned. Raises IpfsUnavailable."""
        await self._unpin(cid_of(digest))

    @abstractmethod
    async def check(self) -> None:
        """Raises IpfsUnavailable unless the node answers."""

    @abstractmethod
    async def _put(self, data: bytes) -> str:
        """Store and pin; the CID as the node says it."""

    @abstractmethod
    async def _get(self, cid: str, limit: int) -> bytes:
        """The bytes as the node sends them, at most `limit` + 1 of them. Raises ContentMissing."""

    @abstractmethod
    async def _is_pinned(self, cid: str) -> bool: ...

    @abstractmethod
    async def _unpin(self, cid: str) -> None: ...
