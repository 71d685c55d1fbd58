"""What goes over the wire: requests from the coordinator and owner-api, and what owner-api answers to a redeemed ticket."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.types import Base64Bytes

ARTIFACT_BYTES = 1 << 20
_HEX_32 = r"^[0-9a-f]{64}$"

Ticket = Annotated[
    str, Field(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$", examples=["bXktdGlja2V0LWlzLXNlY3JldC1hbmQtb25lLXRpbWU"])
]
ArtifactBytes = Annotated[
    Base64Bytes, Field(max_length=ARTIFACT_BYTES, description="An artifact's bytes in base64, at most 1 MiB", examples=["oWd2ZXJzaW9uAQ=="])
]
Seed = Annotated[str, Field(pattern=_HEX_32)]
Integer = Annotated[str, Field(pattern=r"^-?[0-9]{1,39}$")]


class Wire(BaseModel):
    """Closed shapes: what is not named here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StatisticsRequest(Wire):
    """Compute the sufficient statistics of the rows behind a ticket."""

    ticket: Ticket
    manifest: ArtifactBytes


class StatisticsRead(Wire):
    """Exact integers as decimal text: they outgrow 64 bits. f is the manifest's feature bits (PROTOCOL §3)."""

    rows: int = Field(ge=0, examples=[1600])
    gram: list[Integer] = Field(description="XᵀX at 2^-2f: the lower triangle, row after row", examples=[["4294967296", "0", "4294967296"]])
    moment: list[Integer] = Field(description="Xᵀ(y − ½) at 2^-(f+1)", examples=[["131072", "-65536"]])


class GradientStepRequest(Wire):
    """Compute the masked gradient of one member in one round."""

    ticket: Ticket
    manifest: ArtifactBytes
    weights: ArtifactBytes


class PairMask(Wire):
    """A secret shared with one other member; the sign follows from the order of the two (PROTOCOL §4)."""

    sign: Literal[1, -1]
    secret: Seed


class RedeemedTicket(Wire):
    """What owner-api hands out for a gradient ticket."""

    statistics: StatisticsRead
    total_rows: int = Field(ge=1)
    member_index: int = Field(ge=0)
    context: Seed
    manifest_digest: Seed
    weights_digest: Seed
    pair_masks: list[PairMask]
    self_mask: Seed


class ScoreQueryRequest(Wire):
    """Compute the blinded query of one application."""

    ticket: Ticket
    manifest: ArtifactBytes
    scoring_model: ArtifactBytes


class RedeemedScoreTicket(Wire):
    """What owner-api hands out for a score ticket. Numbers too long for JSON are hexadecimal text."""

    features: dict[str, Annotated[str, Field(max_length=200)]] = Field(description="canonical features by column", min_length=1)
    salt: Seed
    blinding: Annotated[str, Field(pattern=r"^[0-9a-f]{1,2048}$", description="R of PROTOCOL §10, drawn and stored before the ticket")]
    borrower_key: Seed
    chain_id: int = Field(ge=1, lt=2**63)
    contract: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    deployment_id: int = Field(ge=1, lt=2**63)
    manifest_digest: Seed
    weights_digest: Seed = Field(description="the model's final weights, as the deployment names them on chain")
    scoring_digest: Seed
