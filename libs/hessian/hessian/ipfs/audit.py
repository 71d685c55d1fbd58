"""The pin audit: what a service anchored stays available, for it keeps the bytes itself and looks whether its IPFS node still does.

An IPFS node may lose a pin (a repository restored from an old backup, another user of the node, a mistake) and then collect the block. Each
service that publishes keeps its artifacts in its own database: the audit asks for every pin and publishes what is missing again. What a
service erased, it unpins: whoever erased it may have died on the way, or met somebody who was about to publish it.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from hessian.errors import Unavailable, Violated
from hessian.identifiers import Digest, digest_of, digest_to_hex
from hessian.ipfs.store import ContentStore

log = structlog.get_logger()
AUDIT_SECONDS = 600.0


class CopySpoilt(Violated):
    """The bytes this node kept are not those it anchored."""


class Copies(ABC):
    """A service's own copies of what it anchored."""

    @abstractmethod
    async def digests(self) -> Sequence[Digest]:
        """Everything that must stay available."""

    @abstractmethod
    async def content(self, digest: Digest) -> bytes | None:
        """The bytes; None when the service let go of them since it named them."""

    async def unpin_erased(self, store: ContentStore) -> int:
        """Unpin what was erased here and may be pinned all the same; how much was. Nothing, in a service that erases nothing."""
        return 0


@dataclass(frozen=True)
class Audit:
    """How many artifacts were looked for, how many had to be published again, and how many erased ones were pinned."""

    checked: int
    restored: int
    removed: int = 0


async def audit(store: ContentStore, copies: Copies) -> Audit:
    """Look once for every pin, and for what must have none. Raises CopySpoilt before anything else than the anchored bytes is published;
    IpfsUnavailable."""
    digests, restored = await copies.digests(), 0
    for digest in digests:
        if await store.is_pinned(digest):
            continue
        content = await copies.content(digest)
        if content is None:
            continue
        if digest_of(content) != digest:
            raise CopySpoilt(f"the copy of {digest_to_hex(digest)} in this node's database has other bytes")
        await store.put(content)
        if await copies.content(digest) is None:  # erased in the meantime, and unpinned before it was put here
            await store.unpin(digest)
            continue
        restored += 1
        log.warning("pin_restored", digest=digest_to_hex(digest), size=len(content))
    return Audit(len(digests), restored, await copies.unpin_erased(store))


async def keep_pinned(store: ContentStore, copies: Copies, stop: asyncio.Event, *, every: float = AUDIT_SECONDS) -> None:
    """Audit now and every so many seconds until `stop`. A neighbour that does not answer is asked the next time. Raises CopySpoilt."""
    while not stop.is_set():
        try:
            done = await audit(store, copies)
        except Unavailable as error:
            log.warning("pin_audit_postponed", reason=error.sentence)
        else:
            log.info("pins_audited", checked=done.checked, restored=done.restored, removed=done.removed)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every)
