"""Deployments and applications on the wire."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hessian.lending.policy import RatePolicy
from hessian.outbox.tables import TransactionState
from hessian.service.fields import AddressField, DigestField, WeiIn, WeiRead
from owner_api.catalogue.schemas import FeatureRead
from owner_api.states import ApplicationMode, ApplicationState


class DecisionWord(StrEnum):
    """What a lender says."""

    APPROVE = "approve"
    DECLINE = "decline"


class BandDecisionRead(BaseModel):
    """What everybody in one probability band is answered. All in basis points."""

    band: int
    pd_bps: int = Field(description="The band's probability of default")
    decision: DecisionWord
    rate_bps: int | None = Field(description="The yearly rate; absent on a decline")


class PolicyRead(BaseModel):
    """The lender's rate policy: basis points and seconds."""

    model_config = ConfigDict(from_attributes=True)

    cutoff_bps: int
    lgd_bps: int
    funding_bps: int
    margin_bps: int
    cap_bps: int
    tier_step_bps: int
    quote_valid_seconds: int
    quote_period_seconds: int


class OfferRead(BaseModel):
    """What is known once manifest and scoring model were verified: enough to build an application form."""

    name: str
    description: str
    features: list[FeatureRead] = Field(
        description="What an application must hold: numbers in their legal range, words as they are spelt here"
    )
    blinding_bits: int = Field(description="t: a private query tells the lender at most t + 1 bits about the features")
    policy: PolicyRead
    in_words: list[str] = Field(description="The same in sentences")
    decisions: list[BandDecisionRead] = Field(description="Every answer this deployment can give, the safest band first")
    gives_reasons: bool = Field(description="A decline of an open application comes with reasons")


class DeploymentRead(BaseModel):
    """A deployment as of the final block."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "deployment_id": 1,
                    "model_id": 1,
                    "lender": "0x52908400098527886E0F7030069857D2E4169EE7",
                    "is_retired": False,
                    "fee_wei": "1000000000000000",
                    "answer_window": 3600,
                    "scoring_digest": "0x" + "ab" * 32,
                    "offer": {
                        "name": "consumer loans",
                        "description": "probability of default",
                        "features": [{"kind": "numeric", "name": "int_rate", "minimum": "0", "maximum": "100"}],
                        "blinding_bits": 32,
                        "policy": {
                            "cutoff_bps": 1500,
                            "lgd_bps": 6000,
                            "funding_bps": 300,
                            "margin_bps": 200,
                            "cap_bps": 3000,
                            "tier_step_bps": 50,
                            "quote_valid_seconds": 604800,
                            "quote_period_seconds": 2592000,
                        },
                        "in_words": ["It approves when the probability of default is at most 15.00 % and the rate at most 30.00 %."],
                        "decisions": [{"band": 0, "pd_bps": 300, "decision": "approve", "rate_bps": 700}],
                        "gives_reasons": False,
                    },
                    "problem": None,
                    "objections": [],
                }
            ]
        }
    )

    deployment_id: int
    model_id: int
    lender: AddressField
    is_retired: bool
    fee_wei: WeiRead = Field(description="What a request costs; credited back when the lender does not answer in time")
    answer_window: int = Field(description="Seconds in which the lender must answer")
    scoring_digest: DigestField
    offer: OfferRead | None = Field(description="Absent while, or because, manifest or scoring model cannot be used")
    problem: str | None = Field(description="Why they cannot be used")
    objections: list[str] = Field(description="Why this node would refuse to apply; empty, without a problem: it would not")


class ApplicationCreate(BaseModel):
    """Apply to a deployment."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "deployment_id": 1,
                    "mode": "private",
                    "max_fee_wei": "1000000000000000",
                    "features": {"income": 4200.5, "age": 41, "region": "N"},
                }
            ]
        },
    )

    deployment_id: int = Field(ge=1, lt=2**63, strict=True)
    mode: ApplicationMode = Field(default=ApplicationMode.PRIVATE, description="`open` shows the features to the lender")
    max_fee_wei: WeiIn = Field(description="A higher fee is refused")
    features: dict[str, Any] = Field(description="Every feature of the deployment by name: JSON numbers, or text")


class RequestAgain(BaseModel):
    """Pay for the same query again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"max_fee_wei": "1000000000000000"}]})

    max_fee_wei: WeiIn


class QuoteRead(BaseModel):
    """The lender's answer. It binds nobody before it is accepted and the lender has confirmed."""

    decision: DecisionWord
    band: int
    pd_bps: int = Field(description="The band's probability of default in basis points")
    rate_bps: int | None = Field(description="The yearly rate in basis points; absent on a decline")
    valid_until: int = Field(description="Seconds since 1970, by the chain's clock")
    reasons: list[str] = Field(description="Of a decline, in open mode, where the lender's policy gives reasons")


class TransactionRead(BaseModel):
    """One transaction of an application."""

    purpose: str = Field(examples=["request-score"])
    state: TransactionState
    transaction_hash: str | None
    reason: str | None


class ApplicationRead(BaseModel):
    """How far an application is. Its features are not repeated."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "8f2a4c58-6a0d-4d8a-a3b0-6d1f5b3c2e77",
                    "deployment_id": 1,
                    "model_id": 1,
                    "mode": "private",
                    "state": "quoted",
                    "reason": None,
                    "fee_wei": "1000000000000000",
                    "query_digest": "0x" + "ab" * 32,
                    "request_id": 7,
                    "deadline": 1800000000,
                    "answer_digest": "0x" + "cd" * 32,
                    "quote": {
                        "decision": "approve",
                        "band": 2,
                        "pd_bps": 640,
                        "rate_bps": 950,
                        "valid_until": 1800600000,
                        "reasons": [],
                    },
                    "transactions": [{"purpose": "request-score", "state": "final", "transaction_hash": "0x" + "ef" * 32, "reason": None}],
                    "features_kept": True,
                    "created_at": "2026-11-22T14:00:00Z",
                    "updated_at": "2026-11-22T14:00:09Z",
                }
            ]
        }
    )

    id: uuid.UUID
    deployment_id: int
    model_id: int
    mode: ApplicationMode
    state: ApplicationState
    reason: str | None = Field(description="Why it ended so, or what it waits for")
    fee_wei: WeiRead
    query_digest: DigestField | None
    request_id: int | None = Field(description="On chain; known once the request is final")
    deadline: int | None = Field(description="Until when the lender may answer, seconds since 1970 by the chain's clock")
    answer_digest: DigestField | None
    quote: QuoteRead | None
    transactions: list[TransactionRead]
    features_kept: bool = Field(description="Features and secrets are still sealed on this node")
    created_at: datetime
    updated_at: datetime


Hex = Annotated[str, Field(pattern="^0x[0-9a-f]+$", examples=["0x" + "1f" * 32])]


class OpeningRead(BaseModel):
    """What a private query's commitment was made of; the lender recomputes everything from it."""

    query_digest: DigestField
    features: dict[str, str] = Field(description="In canonical form")
    salt: Hex
    blinding: Hex = Field(description="R")


class OpenApplicationRead(BaseModel):
    """What an open application's digest was made of."""

    features: dict[str, str] = Field(description="In canonical form")
    salt: Hex
    borrower_key: Hex = Field(description="The answer is sealed to it")


class OpenOpeningRead(OpenApplicationRead):
    """The same once more, to accept."""

    query_digest: DigestField


class AcceptanceRead(BaseModel):
    """For the borrower's own client, which posts `opening` to the lender's `POST /v1/requests/{request_id}/acceptance`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": 7,
                    "opening": {"query_digest": "0x" + "ab" * 32, "features": {"age": "41"}, "salt": "0x" + "00" * 32, "blinding": "0x1f"},
                }
            ]
        }
    )

    request_id: int
    opening: OpeningRead | OpenOpeningRead


class ShownRead(BaseModel):
    """For the borrower's own client, which posts `application` to the lender's `POST /v1/requests/{request_id}/assessment`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": 7,
                    "application": {"features": {"age": "41"}, "salt": "0x" + "00" * 32, "borrower_key": "0x" + "11" * 32},
                }
            ]
        }
    )

    request_id: int
    application: OpenApplicationRead


class RedeemedScoreTicket(BaseModel):
    """Everything of this borrower's that its query needs, for this application only. Numbers too long for JSON are hexadecimal text."""

    features: dict[str, str] = Field(examples=[{"age": "41"}])
    salt: str = Field(examples=["00" * 32])
    blinding: str = Field(examples=["1f"])
    borrower_key: str = Field(examples=["00" * 32])
    chain_id: int
    contract: AddressField
    deployment_id: int
    manifest_digest: str = Field(examples=["00" * 32])
    weights_digest: str = Field(examples=["00" * 32])
    scoring_digest: str = Field(examples=["00" * 32])


def policy_in_words(policy: RatePolicy, blinding_bits: int) -> list[str]:
    """The policy as a borrower reads it."""
    words = [
        f"It approves when the probability of default is at most {_percent(policy.cutoff_bps)} "
        f"and the rate at most {_percent(policy.cap_bps)}.",
        f"The rate covers funding ({_percent(policy.funding_bps)}), a margin ({_percent(policy.margin_bps)}) and the expected loss "
        f"({_percent(policy.lgd_bps)} of a loan that is not repaid), rounded up to a multiple of {_percent(policy.tier_step_bps)}.",
        f"A quote holds for {_duration(policy.quote_valid_seconds)}; "
        f"an account gets one quote in {_duration(policy.quote_period_seconds)}.",
        f"A private application tells the lender at most {blinding_bits + 1} bits about the features, and the band they fall into.",
    ]
    if policy.reasons:
        words.append("A decline of an open application comes with reasons; an open application shows the features to the lender.")
    return words


def _percent(bps: int) -> str:
    return f"{bps // 100}.{bps % 100:02d} %"


def _duration(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds} seconds"
