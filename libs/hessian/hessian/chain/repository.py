"""The one binding of `ModelRepository`: block-pinned reads, and calls for the outbox to sign."""

from __future__ import annotations

from hessian.chain.binding import Call, ContractBinding
from hessian.chain.blocks import Receipt
from hessian.chain.client import At, Chain
from hessian.chain.encoding import record_from_abi, record_to_abi
from hessian.chain.events import RepositoryEvent, decode, decode_all
from hessian.chain.records import CohortRecord, ModelRecord, ModelState, RoundRecord, RoundState, Terms, Totals
from hessian.errors import NotFound
from hessian.identifiers import Address, BlockNumber, CohortId, Digest, ErrorUnits, ModelId, RoundId, Wei


class ModelUnknown(NotFound):
    """The contract has no such model."""


class CohortUnknown(NotFound):
    """The contract has no such cohort."""


class RoundUnknown(NotFound):
    """The contract has no such round."""


class ModelRepository(ContractBinding):
    """The training market at one address."""

    def __init__(self, chain: Chain, address: Address) -> None:
        super().__init__("ModelRepository", chain, address)

    async def events(self, first: BlockNumber, last: BlockNumber) -> list[RepositoryEvent]:
        """Every event of the blocks first…last, in order. Raises ChainUnavailable, Undecodable."""
        return [decode(log) for log in await self.chain.logs(self.address, first, last)]

    def events_of(self, receipt: Receipt) -> list[RepositoryEvent]:
        """What one transaction made this contract say. Raises Undecodable."""
        return decode_all(receipt.logs, self.address)

    async def model(self, model_id: ModelId, at: At) -> ModelRecord:
        """Raises ModelUnknown."""
        record = record_from_abi(ModelRecord, await self._read("model", model_id, at=at))
        if record.state is ModelState.NONE:
            raise ModelUnknown(f"there is no model {model_id} on chain")
        return record

    async def cohort(self, cohort_id: CohortId, at: At) -> CohortRecord:
        """Raises CohortUnknown."""
        record = record_from_abi(CohortRecord, await self._read("cohort", cohort_id, at=at))
        if record.model_id == 0:
            raise CohortUnknown(f"there is no cohort {cohort_id} on chain")
        return record

    async def round(self, round_id: RoundId, at: At) -> RoundRecord:
        """Raises RoundUnknown."""
        record = record_from_abi(RoundRecord, await self._read("round", round_id, at=at))
        if record.state is RoundState.NONE:
            raise RoundUnknown(f"there is no round {round_id} on chain")
        return record

    async def context_of(self, round_id: RoundId, at: At) -> bytes:
        """The round context of PROTOCOL §4 as the contract computes it, 32 bytes."""
        return bytes(await self._read("contextOf", round_id, at=at))

    async def model_count(self, at: At) -> int:
        """Models are numbered 1…model_count."""
        return int(await self._read("modelCount", at=at))

    async def totals(self, at: At) -> Totals:
        """The tracked accounts."""
        return Totals(*await self._totals(at))

    def create_model(self, terms: Terms, manifest_digest: Digest, weights_digest: Digest) -> Call:
        """`createModel`, paid with the terms' escrow."""
        return self._call("createModel", record_to_abi(terms), manifest_digest, weights_digest, value=terms.escrow)

    def join(self, model_id: ModelId, expected_cohort_id: CohortId, masking_key: bytes, rows: int, *, bond: Wei) -> Call:
        """`join`, paid with the terms' member bond."""
        return self._call("join", model_id, expected_cohort_id, masking_key, rows, value=bond)

    def leave(self, cohort_id: CohortId) -> Call:
        """`leave`."""
        return self._call("leave", cohort_id)

    def open_round(self, cohort_id: CohortId) -> Call:
        """`openRound`."""
        return self._call("openRound", cohort_id)

    def submit_gradient(self, round_id: RoundId, gradient_digest: Digest, unlock_commitment: bytes) -> Call:
        """`submitGradient`."""
        return self._call("submitGradient", round_id, gradient_digest, unlock_commitment)

    def accept_submissions(self, round_id: RoundId) -> Call:
        """`acceptSubmissions`."""
        return self._call("acceptSubmissions", round_id)

    def unlock(self, round_id: RoundId, seed: bytes) -> Call:
        """`unlock`: publishes the self-mask's seed."""
        return self._call("unlock", round_id, seed)

    def report_round(self, round_id: RoundId, new_error: ErrorUnits, new_weights_digest: Digest, report_digest: Digest) -> Call:
        """`reportRound`."""
        return self._call("reportRound", round_id, new_error, new_weights_digest, report_digest)

    def expire_round(self, round_id: RoundId) -> Call:
        """`expireRound`."""
        return self._call("expireRound", round_id)

    def close_model(self, model_id: ModelId) -> Call:
        """`closeModel`."""
        return self._call("closeModel", model_id)
