"""What the coordinator and the trainer are answered, and contributions as their owner sees them."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.types import Base64Bytes

from hessian.service.fields import AddressField, DigestField, NameField, WeiRead
from owner_api.states import ContributionState


class Outcome(StrEnum):
    """What became of a coordinator's request."""

    DONE = "done"  # it is done, or was done before
    FOREIGN = "foreign"  # nobody of this node is concerned
    SUPERSEDED = "superseded"  # the chain has moved on
    REFUSED = "refused"  # this node's policy forbids it


class OutcomeRead(BaseModel):
    """The answer to a coordinator."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"outcome": "superseded", "reason": "round 7 is unlocking"}]})

    outcome: Outcome = Field(
        description="done: it is done, or was done before · foreign: nobody of this node is concerned · superseded: the chain has moved "
        "on · refused: this node's policy forbids it"
    )
    reason: str | None = None


class ContributionAsked(BaseModel):
    """A round is open; this may be one of its members."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"round_id": 7, "member": "0x52908400098527886E0F7030069857D2E4169EE7"}]}
    )

    round_id: int = Field(ge=1, lt=2**63, strict=True)
    member: AddressField


class TicketRead(BaseModel):
    """A ticket for the trainer, and the artifacts the job works on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcome": "ticket",
                    "ticket": "rXk0t3nV0wq7J8Jt2b8y1m6q3s5u7w9z1B3D5F7H9J0",
                    "manifest_digest": "0x" + "ab" * 32,
                    "weights_digest": "0x" + "cd" * 32,
                }
            ]
        }
    )

    outcome: Literal["ticket"] = "ticket"
    ticket: str
    manifest_digest: DigestField
    weights_digest: DigestField


class ArtifactRead(BaseModel):
    """The artifact that counts for this contribution: the first one stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gradient_digest": "0x" + "ab" * 32, "artifact": "o2djb250ZXh0"}]})

    gradient_digest: DigestField
    artifact: Base64Bytes


class Submit(BaseModel):
    """The artifact of this digest is published and pinned."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"gradient_digest": "0x" + "ab" * 32}]})

    gradient_digest: DigestField


class Abandon(BaseModel):
    """The member's part cannot be computed, or not in time."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "its contribution was set aside"}]})

    reason: NameField


class TicketRedeem(BaseModel):
    """The trainer shows a ticket."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ticket": "rXk0t3nV0wq7J8Jt2b8y1m6q3s5u7w9z1B3D5F7H9J0"}]})

    ticket: str = Field(min_length=20, max_length=200)


class PairMaskRead(BaseModel):
    """What one other member and this one share in this round."""

    sign: Literal[1, -1]
    secret: str = Field(pattern="^[0-9a-f]{64}$", examples=["00" * 32])


class RedeemedTicket(BaseModel):
    """Everything of this owner's that a gradient step needs, for this round only."""

    statistics: dict[str, Any] = Field(examples=[{"rows": 4, "gram": ["17179869184"], "moment": ["0"]}])
    total_rows: int
    member_index: int
    context: str = Field(examples=["00" * 32])
    manifest_digest: str = Field(examples=["00" * 32])
    weights_digest: str = Field(examples=["00" * 32])
    pair_masks: list[PairMaskRead]
    self_mask: str = Field(examples=["00" * 32])


class ContributionRead(BaseModel):
    """One round of an enrolment, as its owner sees it."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "1f6b3c2e-8f2a-4c58-a3b0-6d1f5b3c2e77",
                    "enrollment_id": "8f2a4c58-6a0d-4d8a-a3b0-6d1f5b3c2e77",
                    "model_id": 1,
                    "cohort_id": 3,
                    "round_id": 7,
                    "member_index": 2,
                    "state": "settled",
                    "reason": None,
                    "gradient_digest": "0x" + "ab" * 32,
                    "earned_wei": "20000000000000000",
                    "created_at": "2026-11-22T14:00:00Z",
                    "updated_at": "2026-11-22T14:00:09Z",
                }
            ]
        },
    )

    id: uuid.UUID
    enrollment_id: uuid.UUID
    model_id: int
    cohort_id: int
    round_id: int
    member_index: int
    state: ContributionState = Field(
        description="prepared: asked for, not computed yet · computed: the artifact is stored, and the same bytes are sent for ever · "
        "submitted: its submission is sent or about to be · unlocked: an unlock was signed, the sum counts as released · settled: the "
        "round was settled, or the lender defaulted and the cohort was paid · failed: the round ended otherwise"
    )
    reason: str | None = Field(description="Why it failed")
    gradient_digest: DigestField | None
    earned_wei: WeiRead = Field(validation_alias="earned")
    created_at: datetime
    updated_at: datetime
