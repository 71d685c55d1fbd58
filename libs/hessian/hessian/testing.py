"""Fakes that ship with the library and pass the real thing's tests, and values that tests start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hessian.chain.records import SplitRule, Terms
from hessian.identifiers import ErrorUnits, Timestamp, Wei, digest_of
from hessian.ipfs.cid import cid_of
from hessian.ipfs.store import ContentMissing, ContentStore


class MemoryStore(ContentStore):
    """A content store in a dictionary. `blocks` is open to a test that wants to spoil the bytes."""

    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}
        self.pins: set[str] = set()

    async def check(self) -> None:
        """Memory always answers."""

    async def _put(self, data: bytes) -> str:
        cid = cid_of(digest_of(data))
        self.blocks[cid] = bytes(data)
        self.pins.add(cid)
        return cid

    async def _get(self, cid: str, limit: int) -> bytes:
        if cid not in self.blocks:
            raise ContentMissing(f"{cid} is not here")
        return self.blocks[cid][: limit + 1]

    async def _is_pinned(self, cid: str) -> bool:
        return cid in self.pins

    async def _unpin(self, cid: str) -> None:
        self.pins.discard(cid)


def valid_terms(now: Timestamp, **changes: Any) -> Terms:
    """Terms that a deployment with a minimum window of up to a minute accepts at `now`, with some fields replaced."""
    terms = Terms(
        bounty=Wei(10**18),
        base_fee=Wei(10**15),
        member_bond=Wei(10**16),
        initial_error=ErrorUnits(250_000_000),
        target_error=ErrorUnits(200_000_000),
        max_rounds=8,
        cohort_size=1,
        row_cap=1_000_000,
        split_rule=SplitRule.BY_ROWS,
        submit_window=60,
        accept_window=60,
        unlock_window=60,
        evaluate_window=60,
        training_deadline=Timestamp(now + 86_400),
    )
    return replace(terms, **changes)
