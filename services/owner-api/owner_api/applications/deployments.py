"""Deployments on the wire: what a borrower reads before applying."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from hessian.lending.policy import RatePolicy
from hessian.service.fields import AddressField, DigestField, WeiRead
from owner_api.catalogue.schemas import FeatureRead


class DecisionWord(StrEnum):
    """What a lender says."""

    APPROVE = "approve"
    DECLINE = "decline"


class BandDecisionRead(BaseModel):
    """What everybody in one probability band is answered. All in basis points."""

    band: int
    pd_bps: int = Field(description="The band's probability of default")
    decision: DecisionWord
    rate_bps: int | None = Field(description="The yearly rate; null on a decline")


class PolicyRead(BaseModel):
    """The lender's rate policy: basis points and seconds. `decisions` holds what it comes to.

    With all in basis points, r = ⌈(10⁴·(funding + margin) + PD·LGD) / (10⁴ − PD)⌉; it approves where PD ≤ cutoff and r ≤ cap.
    """

    model_config = ConfigDict(from_attributes=True)

    cutoff_bps: int = Field(description="PD: highest probability of default that is approved")
    lgd_bps: int = Field(description="LGD: share of a loan that is lost when it is not repaid")
    funding_bps: int = Field(description="Yearly cost of the money that is lent, part of the rate")
    margin_bps: int = Field(description="The lender's yearly margin, part of the rate")
    cap_bps: int = Field(description="Highest yearly rate that is offered; who would need a higher one is declined")
    tier_step_bps: int = Field(description="r is rounded up to a multiple of this, but not above the cap")
    quote_valid_seconds: int = Field(description="How long a quote holds from when the lender makes it, by the chain's clock")
    quote_period_seconds: int = Field(description="An account gets one quote in this time")


class OfferRead(BaseModel):
    """What is known once manifest and scoring model were verified: enough to build an application form."""

    name: str
    description: str
    features: list[FeatureRead] = Field(
        description="What an application must hold: numbers in their legal range, or what says that they are missing, words as they are "
        "spelt here"
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
                        "features": [
                            {"kind": "numeric", "name": "int_rate", "minimum": "0", "maximum": "100", "missing": ["", "NA"], "unit": "%"}
                        ],
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
    offer: OfferRead | None = Field(description="Null while, or because, manifest or scoring model cannot be used")
    problem: str | None = Field(description="Why they cannot be used; null: they can")
    objections: list[str] = Field(description="Why this node would refuse to apply; empty, without a problem: it would not")


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
