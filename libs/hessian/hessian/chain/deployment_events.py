"""One frozen dataclass per event of ModelDeployment, and its decoding from logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hessian.chain.blocks import Log
from hessian.chain.contract_events import ContractEvent, event_from_log, event_from_plain
from hessian.chain.deployment_records import FeeCreditReason
from hessian.identifiers import Address, DeploymentId, Digest, ModelId, RequestId, Timestamp, Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentEvent(ContractEvent):
    """Something the serving market did, and where."""

    kinds: ClassVar[dict[str, type[DeploymentEvent]]] = {}

    def __init_subclass__(cls) -> None:
        DeploymentEvent.kinds[cls.__name__] = cls


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDeployed(DeploymentEvent):
    """A trained model can be asked from now on."""

    deployment_id: DeploymentId
    model_id: ModelId
    lender: Address
    weights_digest: Digest
    scoring_digest: Digest
    fee: Wei
    answer_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequested(DeploymentEvent):
    """A borrower paid the fee and anchored its query: waiting until the deadline."""

    request_id: RequestId
    deployment_id: DeploymentId
    requester: Address
    query_digest: Digest
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAnswered(DeploymentEvent):
    """The lender anchored its answer."""

    request_id: RequestId
    deployment_id: DeploymentId
    answer_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExpired(DeploymentEvent):
    """The lender did not answer in time: the fee went back."""

    request_id: RequestId
    deployment_id: DeploymentId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRetired(DeploymentEvent):
    """The deployment takes no new requests."""

    deployment_id: DeploymentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited(DeploymentEvent):
    """An account may withdraw more than before."""

    account: Address
    request_id: RequestId
    reason: FeeCreditReason
    amount: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn(DeploymentEvent):
    """An account took its credits."""

    account: Address
    amount: Wei


def decode(log: Log) -> DeploymentEvent:
    """The event in a log of ModelDeployment. Raises Undecodable (Violated) for one this software does not know."""
    return event_from_log("ModelDeployment", DeploymentEvent.kinds, log)


def decode_all(logs: Iterable[Log], address: Address) -> list[DeploymentEvent]:
    """The events among `logs` that the contract at `address` emitted, in order."""
    return [decode(log) for log in logs if log.address == address]


def from_plain(plain: Mapping[str, Any]) -> DeploymentEvent:
    """What `to_plain` wrote. Raises Malformed."""
    return event_from_plain(DeploymentEvent.kinds, plain)
