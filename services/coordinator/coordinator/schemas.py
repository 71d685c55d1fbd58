"""What the read API answers. Times are seconds of the chain's clock; states are the contract's own words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from coordinator.jobs import JobKind, JobState, Service
from hessian.service.fields import AddressField, DigestField, WeiRead

ErrorField = Field(description="Validation error in billionths", examples=[173_204_511])
TimeField = Field(description="Seconds since 1970 by the chain's clock", examples=[1_790_000_000])


class Row(BaseModel):
    """Built from rows and views alike."""

    model_config = ConfigDict(from_attributes=True)


class MemberRead(Row):
    """A place in a cohort."""

    member_index: int = Field(examples=[0])
    account: AddressField
    rows: int = Field(description="As declared when it joined", examples=[1600])


class CohortRead(Row):
    """A cohort and who is in it."""

    cohort_id: int = Field(examples=[1])
    is_sealed: bool
    is_closed: bool
    total_rows: int = Field(description="Zero until the seal", examples=[8000])
    members: list[MemberRead]


class ModelRead(Row):
    """A model on chain."""

    model_id: int = Field(examples=[1])
    lender: AddressField
    state: str = Field(description="open, trained, exhausted, expired, defaulted or cancelled", examples=["open"])
    is_closed: bool = Field(description="The lender has taken what was left of the escrow")
    initial_error: int = ErrorField
    target_error: int = ErrorField
    best_error: int = ErrorField
    bounty_wei: WeiRead
    base_fee_wei: WeiRead
    paid_wei: WeiRead = Field(description="Credited to cohorts so far")
    refunded_wei: WeiRead = Field(description="Credited back to the lender")
    cohort_size: int = Field(examples=[5])
    split_rule: str = Field(description="equal or by_rows", examples=["by_rows"])
    max_rounds: int = Field(examples=[8])
    rounds_opened: int = Field(examples=[3])
    rounds_paid: int = Field(examples=[2])
    round_in_flight: int | None = Field(default=None, examples=[3])
    training_deadline: int = TimeField
    created_at: int = TimeField
    manifest_digest: DigestField
    weights_digest: DigestField
    cohorts: list[CohortRead] = Field(description="Forming and sealed; closed ones are listed with their rounds")


class JobRead(Row):
    """Something the coordinator asked, or will ask, of another service of this node."""

    id: int = Field(examples=[17])
    kind: JobKind
    service: Service
    model_id: int = Field(examples=[1])
    cohort_id: int | None = Field(examples=[1])
    round_id: int | None = Field(examples=[3])
    request_id: int | None = Field(examples=[12])
    member: AddressField | None
    state: JobState = Field(
        description="planned: to be asked now or again later · dispatched: being asked · done: it has its effect · foreign: nobody of "
        "this node is concerned · set_aside: given up, for a person to look at"
    )
    attempts: int = Field(examples=[1])
    reason: str | None = Field(
        description="Why it waits, was superseded, or was set aside", examples=["trainer does not answer (ConnectError)"]
    )
    created_at: datetime
    updated_at: datetime


class ContributionRead(Row):
    """One member's part in a round."""

    member_index: int = Field(examples=[0])
    member: AddressField
    rows: int = Field(examples=[1600])
    gradient_digest: DigestField | None = Field(description="Null until it has submitted")
    submitted_at: int | None = TimeField
    unlocked_at: int | None = TimeField


class RoundRead(Row):
    """A round, who did what in it, and the jobs that it needs of this node."""

    round_id: int = Field(examples=[3])
    model_id: int = Field(examples=[1])
    cohort_id: int = Field(examples=[1])
    number: int = Field(description="Counts the model's rounds from 1", examples=[3])
    state: str = Field(
        description="submitting, accepting, unlocking, evaluating, settled, failed, unlock_failed or defaulted", examples=["unlocking"]
    )
    deadline: int = Field(description="Of the present state, by the chain's clock", examples=[1_790_000_000])
    submitted: int = Field(examples=[5])
    unlocked: int = Field(examples=[2])
    members: list[ContributionRead]
    error_before: int = ErrorField
    error_after: int | None = ErrorField
    reward_wei: WeiRead | None = Field(description="What the improvement earned; the pool is this and the base fee")
    pool_wei: WeiRead | None
    weights_digest: DigestField
    new_weights_digest: DigestField | None
    report_digest: DigestField | None
    opened_at: int = TimeField
    ended_at: int | None = TimeField
    jobs: list[JobRead]


class DeploymentRead(Row):
    """A trained model that can be asked for a fee."""

    deployment_id: int = Field(examples=[1])
    model_id: int = Field(examples=[1])
    lender: AddressField
    fee_wei: WeiRead = Field(description="For every request")
    answer_window: int = Field(description="Seconds within which a request is answered, or its fee goes back", examples=[3600])
    scoring_digest: DigestField = Field(description="Encrypted weights at the scoring scale, calibration and rate policy")
    weights_digest: DigestField
    is_retired: bool = Field(description="Takes no new requests")
    deployed_at: int = TimeField


class RequestRead(Row):
    """A borrower's request for a score, and the jobs that it needs of this node."""

    request_id: int = Field(examples=[12])
    deployment_id: int = Field(examples=[1])
    requester: AddressField
    state: str = Field(description="waiting, answered or expired", examples=["answered"])
    deadline: int = Field(description="Of the answer, by the chain's clock", examples=[1_790_000_000])
    query_digest: DigestField
    answer_digest: DigestField | None
    requested_at: int = TimeField
    ended_at: int | None = TimeField
    jobs: list[JobRead]


class EventRead(Row):
    """Something a contract said in a final block."""

    id: int = Field(examples=[42])
    contract: str = Field(description="ModelRepository or ModelDeployment", examples=["ModelRepository"])
    kind: str = Field(examples=["RoundSettled"])
    block_number: int = Field(examples=[1207])
    block_hash: str = Field(examples=["0x" + "ab" * 32])
    log_index: int = Field(examples=[0])
    transaction_hash: str = Field(examples=["0x" + "cd" * 32])
    timestamp: int = TimeField
    model_id: int | None
    cohort_id: int | None
    round_id: int | None
    deployment_id: int | None
    request_id: int | None
    account: AddressField | None = Field(description="The account it speaks of, if it speaks of one")
    arguments: dict[str, Any] = Field(examples=[{"round_id": 3, "reward": "120000000000000000"}])


class BlockRead(BaseModel):
    """A height and its time."""

    number: int = Field(examples=[1207])
    timestamp: int = TimeField


class StatusRead(BaseModel):
    """How far this coordinator is."""

    chain_id: int = Field(examples=[31337])
    repository_address: AddressField
    deployment_address: AddressField
    head: BlockRead = Field(description="The tip, which may still vanish")
    final: BlockRead = Field(description="Safe to act on")
    cursor: BlockRead | None = Field(description="The last block done; null before the first")
    lag_blocks: int | None = Field(examples=[0])
    lag_seconds: int | None = Field(description="By the chain's clock", examples=[0])
    services: list[Service] = Field(description="The neighbours that jobs are sent to")
    jobs: dict[JobState, int] = Field(description="How many stand where", examples=[{"done": 41, "set_aside": 0}])
