"""What the serving contract stores and says, in its own words: the structs and enums of IModelDeployment.sol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hessian.identifiers import Address, DeploymentId, Digest, ModelId, Timestamp, Wei


class RequestState(IntEnum):
    """PROTOCOL §7. A request that nobody expired stays WAITING past its deadline."""

    NONE = 0
    WAITING = 1
    ANSWERED = 2
    EXPIRED = 3


class FeeCreditReason(IntEnum):
    """Why an account was credited: an own answer, or a request of its own that was not answered."""

    FEE = 0
    REFUND = 1


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment at one block. Only `is_retired` ever changes."""

    model_id: ModelId
    lender: Address
    is_retired: bool
    answer_window: int
    fee: Wei
    weights_digest: Digest
    scoring_digest: Digest


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request at one block; `answer_digest` is zero before the answer, `deadline` the last second in which it can come."""

    deployment_id: DeploymentId
    requester: Address
    state: RequestState
    deadline: Timestamp
    query_digest: Digest
    answer_digest: Digest


@dataclass(frozen=True, slots=True)
class FeeTotals:
    """The contract's tracked accounts: the fees of waiting requests, and credits. Their sum is at most its balance."""

    fees: Wei
    credits: Wei
