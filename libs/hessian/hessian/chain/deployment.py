"""The one binding of `ModelDeployment`: block-pinned reads, and calls for the outbox to sign."""

from __future__ import annotations

from hessian.chain.binding import Call, ContractBinding
from hessian.chain.blocks import Receipt
from hessian.chain.client import At, Chain
from hessian.chain.deployment_events import DeploymentEvent, decode, decode_all
from hessian.chain.deployment_records import DeploymentRecord, FeeTotals, RequestRecord, RequestState
from hessian.chain.encoding import record_from_abi
from hessian.errors import NotFound
from hessian.identifiers import Address, BlockNumber, DeploymentId, Digest, ModelId, RequestId, Wei


class DeploymentUnknown(NotFound):
    """The contract has no such deployment."""


class RequestUnknown(NotFound):
    """The contract has no such request."""


class ModelDeployment(ContractBinding):
    """The serving market at one address."""

    def __init__(self, chain: Chain, address: Address) -> None:
        super().__init__("ModelDeployment", chain, address)

    async def events(self, first: BlockNumber, last: BlockNumber) -> list[DeploymentEvent]:
        """Every event of the blocks first…last, in order. Raises ChainUnavailable, Undecodable."""
        return [decode(log) for log in await self.chain.logs(self.address, first, last)]

    def events_of(self, receipt: Receipt) -> list[DeploymentEvent]:
        """What one transaction made this contract say. Raises Undecodable."""
        return decode_all(receipt.logs, self.address)

    async def deployment(self, deployment_id: DeploymentId, at: At) -> DeploymentRecord:
        """Raises DeploymentUnknown."""
        record = record_from_abi(DeploymentRecord, await self._read("deployment", deployment_id, at=at))
        if record.model_id == 0:
            raise DeploymentUnknown(f"there is no deployment {deployment_id} on chain")
        return record

    async def request(self, request_id: RequestId, at: At) -> RequestRecord:
        """Raises RequestUnknown."""
        record = record_from_abi(RequestRecord, await self._read("request", request_id, at=at))
        if record.state is RequestState.NONE:
            raise RequestUnknown(f"there is no request {request_id} on chain")
        return record

    async def deployment_count(self, at: At) -> int:
        """Deployments are numbered 1…deployment_count."""
        return int(await self._read("deploymentCount", at=at))

    async def request_count(self, at: At) -> int:
        """Requests are numbered 1…request_count, over all deployments."""
        return int(await self._read("requestCount", at=at))

    async def repository(self, at: At) -> Address:
        """Where this contract looks models up."""
        return Address(str(await self._read("repository", at=at)))

    async def totals(self, at: At) -> FeeTotals:
        """The tracked accounts."""
        return FeeTotals(*await self._totals(at))

    def deploy(self, model_id: ModelId, scoring_digest: Digest, fee: Wei, answer_window: int) -> Call:
        """`deploy`."""
        return self._call("deploy", model_id, scoring_digest, fee, answer_window)

    def request_score(self, deployment_id: DeploymentId, query_digest: Digest, *, fee: Wei) -> Call:
        """`requestScore`, paid with the deployment's fee."""
        return self._call("requestScore", deployment_id, query_digest, value=fee)

    def answer_score(self, request_id: RequestId, answer_digest: Digest) -> Call:
        """`answerScore`."""
        return self._call("answerScore", request_id, answer_digest)

    def expire_request(self, request_id: RequestId) -> Call:
        """`expireRequest`."""
        return self._call("expireRequest", request_id)

    def retire(self, deployment_id: DeploymentId) -> Call:
        """`retire`."""
        return self._call("retire", deployment_id)
