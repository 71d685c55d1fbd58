"""Applications on the wire."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hessian.outbox.tables import TRANSACTION_STATES, TransactionState
from hessian.service.fields import AddressField, DigestField, WeiIn, WeiRead
from owner_api.applications.deployments import DecisionWord
from owner_api.states import ApplicationMode, ApplicationState


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
    mode: ApplicationMode = Field(
        default=ApplicationMode.PRIVATE,
        description="private: the lender sees a blinded score · open: the lender sees the features, and may give reasons for a decline",
    )
    max_fee_wei: WeiIn = Field(description="A higher fee is refused")
    features: dict[str, Any] = Field(
        description="Every feature of the deployment by name: JSON numbers, or text; null too for a number whose `missing` is not empty"
    )


class RequestAgain(BaseModel):
    """Pay for the same query again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"max_fee_wei": "1000000000000000"}]})

    max_fee_wei: WeiIn


class AcceptanceCreate(BaseModel):
    """Accept a quote. May be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"accept_doubtful": False}]})

    accept_doubtful: bool = Field(
        default=False,
        strict=True,
        description="Confirms a quote that contradicts the published policy, or could not be compared with it: `reason` says which",
    )


class QuoteRead(BaseModel):
    """The lender's answer. It binds nobody before it is accepted and the lender has confirmed."""

    decision: DecisionWord
    band: int
    pd_bps: int = Field(description="The band's probability of default in basis points")
    rate_bps: int | None = Field(description="The yearly rate in basis points; null on a decline")
    valid_until: int = Field(description="Seconds since 1970, by the chain's clock")
    reasons: list[str] = Field(description="Of a decline, in open mode, where the lender's policy gives reasons")


class TransactionRead(BaseModel):
    """One transaction of an application."""

    purpose: str = Field(examples=["request-score"])
    state: TransactionState = Field(description=TRANSACTION_STATES)
    transaction_hash: str | None
    reason: str | None = Field(description="Why it failed")


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
    state: ApplicationState = Field(
        description="preparing: the query is computed and published, nothing is paid · requesting: the transaction with the fee is on its "
        "way · waiting: the fee is paid, the lender may answer until `deadline` · quoted: `quote` holds its answer · accepted: the "
        "opening was given to the borrower's client · unreadable: the lender was paid for an answer that nobody can read · expired: it "
        "did not answer in time, the fee is credited back in ModelDeployment; can be requested again · failed: no fee was paid"
    )
    reason: str | None = Field(description="Why it ended so, what it waits for, or what a quote is in doubt for")
    fee_wei: WeiRead
    query_digest: DigestField | None
    request_id: int | None = Field(description="On chain; null until the request is final")
    deadline: int | None = Field(
        description="Until when the lender may answer, seconds since 1970 by the chain's clock; null until the request is final"
    )
    answer_digest: DigestField | None
    quote: QuoteRead | None = Field(description="Null until the state is `quoted`")
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
