"""Looking up queries on IPFS: few at a time, so that digests nobody has, which cost their makers next to nothing, starve nobody.

An account has one lookup at a time. The first one of a request is short, and half of the places are kept for first ones; one that found
nothing is repeated for longer, after a pause in proportion. Whoever gets no place is told so at once: nobody waits in a row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from hessian.chain.deployment_records import RequestRecord
from hessian.errors import IpfsUnavailable, Refused
from hessian.identifiers import Address, RequestId
from hessian.ipfs.store import ContentMissing, ContentStore

PLACES = 4
"""Lookups at a time: half of a coordinator's jobs stay free for rounds, where bonds are at stake."""

REPEATED_PLACES = 2
FIRST_SECONDS = 2.0
LONGEST_SECONDS = 16.0
PAUSE_FACTOR = 4
"""A request whose query was not found waits so many times as long as it held a place."""


class LookupRefused(IpfsUnavailable):
    """Other queries are being looked up on IPFS; this one is tried again."""


class QueryNotFound(IpfsUnavailable):
    """The query's bytes were not found on IPFS in the time for it; they are looked up again later."""


@dataclass(frozen=True, slots=True)
class _Missed:
    seconds: float
    again_at: float


class Lookups:
    """What is being looked up, and what was in vain, in this process. `clock` in seconds, any origin."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._repeats: dict[Address, bool] = {}  # by the account whose lookup is under way: whether it is a repeated one
        self._missed: dict[RequestId, _Missed] = {}

    async def get(self, store: ContentStore, request_id: RequestId, request: RequestRecord) -> bytes:
        """The query of a request. Raises LookupRefused at once; QueryNotFound, IpfsUnavailable, ArtifactTooLarge."""
        missed, begun = self._missed.get(request_id), self._clock()
        self._require_place(request_id, request.requester, missed, begun)
        seconds = FIRST_SECONDS if missed is None else missed.seconds
        self._repeats[request.requester] = missed is not None
        try:
            async with asyncio.timeout(seconds):
                data = await store.get(request.query_digest)
        except (TimeoutError, ContentMissing) as error:
            now = self._clock()
            self._missed[request_id] = _Missed(min(LONGEST_SECONDS, 2 * seconds), now + PAUSE_FACTOR * (now - begun))
            raise QueryNotFound from error
        except Refused:
            self.forget(request_id)
            raise
        finally:
            del self._repeats[request.requester]
        self.forget(request_id)
        return data

    def forget(self, request_id: RequestId) -> None:
        """The request needs no further lookup."""
        self._missed.pop(request_id, None)

    def _require_place(self, request_id: RequestId, requester: Address, missed: _Missed | None, now: float) -> None:
        if missed is not None and now < missed.again_at:
            raise LookupRefused(f"the query of request {request_id} was not found; it is looked up again in {missed.again_at - now:.0f} s")
        if requester in self._repeats:
            raise LookupRefused(f"another query of account {requester} is being looked up")
        if len(self._repeats) >= PLACES or (missed is not None and sum(self._repeats.values()) >= REPEATED_PLACES):
            raise LookupRefused
