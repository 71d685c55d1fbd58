"""Requests on the wire: what the lender sees of them, and what a borrower's own client shows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from hessian.artifacts.application import LONGEST_VALUE
from hessian.learning.features import LARGEST_DIMENSION
from hessian.paillier.keys import MAXIMUM_BITS
from hessian.service.fields import AddressField, DigestField
from lender_api.models.outlines import Shape
from lender_api.tables import Deployment, ScoreRequest

LARGEST_OPENING = 256 * 1024
"""Bytes of a body that anybody may send."""


class RequestRead(BaseModel):
    """A borrower's request and what became of it."""

    request_id: int = Field(examples=[12])
    deployment_id: int = Field(examples=[1])
    requester: AddressField
    state: str = Field(description="waiting, answered or expired: as in the contract", examples=["answered"])
    mode: str | None = Field(description="private or open; null until it is scored", examples=["private"])
    reason: str | None = Field(description="Why it was left unanswered")
    requested_at: int = Field(description="Seconds since 1970 by the chain's clock", examples=[1_790_000_000])
    deadline: int = Field(description="Of the answer, by the same clock", examples=[1_790_003_600])
    query_digest: DigestField
    answer_digest: DigestField | None
    score: int | None = Field(description="An integer at the scoring scale", examples=[-183_201])
    decision: str | None = Field(description="approve or decline", examples=["approve"])
    band: int | None = Field(description="Index of the score's band, counted from the lowest probability", examples=[3])
    pd_bps: int | None = Field(description="The band's probability of default in basis points", examples=[412])
    rate_bps: int | None = Field(description="The yearly rate in basis points; null on a decline", examples=[800])
    reasons: list[str] | None = Field(description="What a declined borrower was told, in open mode")
    valid_until: int | None = Field(description="The quote's end, by the chain's clock", examples=[1_790_090_000])
    accepted_at: datetime | None = Field(description="When the borrower opened its commitment, and it held")
    created_at: datetime

    @classmethod
    def of(cls, row: ScoreRequest, deployment: Deployment) -> Self:
        """From its row."""
        shared = {name: getattr(row, name) for name in cls.model_fields if name not in ("deployment_id", "decision")}
        decision = None if row.is_approved is None else "approve" if row.is_approved else "decline"
        return cls.model_validate({**shared, "deployment_id": deployment.deployment_id, "decision": decision})


class RequestDetail(RequestRead):
    """A request with what its borrower showed."""

    features: dict[str, str] | None = Field(description="By column; null until an acceptance, or an application in open mode, shows them")


Features = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=LONGEST_VALUE)], Annotated[str, Field(max_length=LONGEST_VALUE)]],
    Field(
        max_length=LARGEST_DIMENSION,
        description="Column to canonical text, as the application was made with them",
        examples=[{"int_rate": "12.5", "term": "36 months"}],
    ),
]
Salt = Annotated[DigestField, Field(description="The application's 32 random bytes")]
BorrowerKey = Annotated[DigestField, Field(description="The X25519 key that the answer is sealed to")]


class OpenFeatures(Shape):
    """The application in open mode whose digest the request on chain names."""

    features: Features
    salt: Salt
    borrower_key: BorrowerKey


class AssessmentRead(BaseModel):
    """The decision is not here: it goes sealed to the borrower's key, through the chain."""

    request_id: int = Field(examples=[12])
    state: str = Field(
        description="waiting: the answer is on its way to the chain · answered: a final block shows it", examples=["waiting"]
    )


class AcceptQuote(Shape):
    """The opening of an application: the features and what its query was made with."""

    query_digest: DigestField = Field(description="What the request on chain names")
    features: Features
    salt: Salt
    blinding: Annotated[str, Field(pattern=f"^0x[0-9a-f]{{1,{MAXIMUM_BITS // 4}}}$")] | None = Field(
        default=None, description="R in hexadecimal, of a private query", examples=["0x5f3a"]
    )
    borrower_key: BorrowerKey | None = Field(default=None, description="Instead of R, of an application in open mode")

    @model_validator(mode="after")
    def _is_of_one_mode(self) -> Self:
        if (self.blinding is None) == (self.borrower_key is None):
            raise ValueError("send either blinding (private) or borrower_key (open)")
        return self


class AcceptanceRead(BaseModel):
    """A quote that the lender stands by."""

    request_id: int = Field(examples=[12])
    pd_bps: int = Field(description="Probability of default in basis points", examples=[412])
    rate_bps: int = Field(description="The yearly rate in basis points", examples=[800])
    valid_until: int = Field(description="The quote's end, seconds since 1970 by the chain's clock", examples=[1_790_090_000])
    accepted_at: datetime = Field(description="By the chain's clock")
