"""What the chain tells of one model's settled rounds: every block is read once, however often recovery has to begin again."""

from __future__ import annotations

import asyncio

from hessian.chain.blocks import Block
from hessian.chain.client import LARGEST_WINDOW
from hessian.chain.events import RoundSettled
from hessian.chain.repository import ModelRepository
from hessian.identifiers import BlockNumber, ModelId


class Settlements:
    """The settled rounds found so far. `one_at_a_time` is held by whoever brings them in: the next one finds them known."""

    def __init__(self, model_id: ModelId, first_block: BlockNumber) -> None:
        self.one_at_a_time = asyncio.Lock()
        self._model_id = model_id
        self._first_block = self._next_block = first_block
        self._found: list[RoundSettled] = []

    async def until(self, repository: ModelRepository, block: Block) -> list[RoundSettled]:
        """Those of the blocks up to `block`, a final one, in order. Raises ChainUnavailable; what was read by then stays read."""
        while self._next_block <= block.number:
            last = BlockNumber(min(self._next_block + LARGEST_WINDOW - 1, block.number))
            events = await repository.events(self._next_block, last)
            self._found += [event for event in events if isinstance(event, RoundSettled) and event.model_id == self._model_id]
            self._next_block = BlockNumber(last + 1)
        return [event for event in self._found if event.place.block_number <= block.number]

    def forget(self) -> None:
        """Read every block again the next time: the node has left something out."""
        self._next_block, self._found = self._first_block, []
