"""One frozen dataclass per event of ModelRepository, and its decoding from logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hessian.chain.blocks import Log
from hessian.chain.contract_events import ContractEvent, event_from_log, event_from_plain
from hessian.chain.records import CreditReason, ModelState, RoundState, Terms
from hessian.identifiers import Address, CohortId, Digest, ErrorUnits, ModelId, RoundId, Timestamp, Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryEvent(ContractEvent):
    """Something the training market did, and where."""

    kinds: ClassVar[dict[str, type[RepositoryEvent]]] = {}

    def __init_subclass__(cls) -> None:
        RepositoryEvent.kinds[cls.__name__] = cls


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCreated(RepositoryEvent):
    """A model is open for cohorts; its bounty is in escrow."""

    model_id: ModelId
    lender: Address
    terms: Terms
    manifest_digest: Digest
    weights_digest: Digest
    forming_cohort_id: CohortId


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberJoined(RepositoryEvent):
    """A member took the next place of the forming cohort."""

    model_id: ModelId
    cohort_id: CohortId
    member: Address
    masking_key: bytes
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLeft(RepositoryEvent):
    """A member left before the seal; the last member takes its place in the order."""

    model_id: ModelId
    cohort_id: CohortId
    member: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSealed(RepositoryEvent):
    """The cohort is complete: its members never change."""

    model_id: ModelId
    cohort_id: CohortId
    members_hash: bytes
    total_rows: int
    next_cohort_id: CohortId


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortClosed(RepositoryEvent):
    """The cohort opens no further round."""

    model_id: ModelId
    cohort_id: CohortId


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOpened(RepositoryEvent):
    """Submitting until the deadline."""

    round_id: RoundId
    model_id: ModelId
    cohort_id: CohortId
    weights_digest: Digest
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSubmitted(RepositoryEvent):
    """A member anchored its masked gradient and its unlock commitment."""

    round_id: RoundId
    member: Address
    member_index: int
    gradient_digest: Digest
    unlock_commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionsCompleted(RepositoryEvent):
    """Every member has submitted: Accepting until the deadline."""

    round_id: RoundId
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionsAccepted(RepositoryEvent):
    """The lender holds every artifact: Unlocking until the deadline."""

    round_id: RoundId
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberUnlocked(RepositoryEvent):
    """A member opened its self-mask."""

    round_id: RoundId
    member: Address
    member_index: int
    seed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlocksCompleted(RepositoryEvent):
    """Every member has unlocked: Evaluating until the deadline."""

    round_id: RoundId
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettled(RepositoryEvent):
    """The lender reported; the pool is credited to the cohort."""

    round_id: RoundId
    model_id: ModelId
    cohort_id: CohortId
    new_error: ErrorUnits
    new_weights_digest: Digest
    report_digest: Digest
    reward: Wei
    pool: Wei
    model_state: ModelState


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFailed(RepositoryEvent):
    """The round ended before anything was opened."""

    round_id: RoundId
    model_id: ModelId
    cohort_id: CohortId
    from_state: RoundState


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundUnlockFailed(RepositoryEvent):
    """A member did not unlock in time."""

    round_id: RoundId
    model_id: ModelId
    cohort_id: CohortId


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundDefaulted(RepositoryEvent):
    """The lender did not report in time: the remaining bounty went to the cohort and the model ended."""

    round_id: RoundId
    model_id: ModelId
    cohort_id: CohortId
    pool: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClosed(RepositoryEvent):
    """The lender closed the model; the remaining escrow is credited to it."""

    model_id: ModelId
    state: ModelState
    refund: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited(RepositoryEvent):
    """An account may withdraw more than before."""

    account: Address
    model_id: ModelId
    reason: CreditReason
    amount: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn(RepositoryEvent):
    """An account took its credits."""

    account: Address
    amount: Wei


def decode(log: Log) -> RepositoryEvent:
    """The event in a log of ModelRepository. Raises Undecodable (Violated) for one this software does not know."""
    return event_from_log("ModelRepository", RepositoryEvent.kinds, log)


def decode_all(logs: Iterable[Log], address: Address) -> list[RepositoryEvent]:
    """The events among `logs` that the contract at `address` emitted, in order."""
    return [decode(log) for log in logs if log.address == address]


def from_plain(plain: Mapping[str, Any]) -> RepositoryEvent:
    """What `to_plain` wrote. Raises Malformed."""
    return event_from_plain(RepositoryEvent.kinds, plain)
