"""Rounds on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hessian.service.fields import DigestField, WeiRead


class Outcome(BaseModel):
    """What became of a coordinator's request."""

    outcome: Literal["done", "pending", "foreign", "superseded", "refused"] = Field(
        description="done: a final block shows it · pending: a transaction is under way, ask again · foreign: another lender's model · "
        "superseded: the chain has moved on · "
        "refused: the members' content is bad, or spoiled earlier rounds; the round fails by its deadline"
    )
    reason: str | None = Field(default=None, examples=["round 7 is Settled"])


def done(reason: str | None = None) -> Outcome:
    """A final block shows it."""
    return Outcome(outcome="done", reason=reason)


def pending(reason: str | None = None) -> Outcome:
    """Sent, or about to be. Whoever asks again has a transaction that failed for no lasting reason sent anew."""
    return Outcome(outcome="pending", reason=reason)


def foreign(reason: str | None = None) -> Outcome:
    """Not this node's model."""
    return Outcome(outcome="foreign", reason=reason)


def superseded(reason: str) -> Outcome:
    """The chain has moved on: there is nothing left to do."""
    return Outcome(outcome="superseded", reason=reason)


def refused(reason: str) -> Outcome:
    """Bad content; stored with the round."""
    return Outcome(outcome="refused", reason=reason)


class RoundRead(BaseModel):
    """One round: what it cost and what it brought."""

    model_config = ConfigDict(from_attributes=True)

    round_id: int = Field(examples=[7])
    cohort_id: int = Field(examples=[2])
    state: str = Field(description="As in the contract", examples=["settled"])
    reason: str | None = Field(description="Why it could not be accepted, or why it brought nothing")
    members: int = Field(examples=[5])
    rows: int = Field(description="Declared rows of the cohort", examples=[8000])
    submitted: int
    unlocked: int
    weights_digest: DigestField = Field(description="Encrypted weights it started from")
    error_before: int = Field(description="In billionths", examples=[49_000_000])
    error_after: int | None = Field(examples=[47_100_000])
    new_weights_digest: DigestField | None
    report_digest: DigestField | None
    reward_wei: WeiRead | None = Field(description="Part of the bounty it earned")
    pool_wei: WeiRead | None = Field(description="What the cohort was credited: the reward and the base fee")
    created_at: datetime
    settled_at: datetime | None = Field(description="By the chain's clock")
