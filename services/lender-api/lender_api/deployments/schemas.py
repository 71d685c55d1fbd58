"""Deployments on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from hessian.learning.calibration import DEFAULT_BANDS, MOST_BANDS, CalibrationTable
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.scoring import DEFAULT_BLINDING_BITS, LEAST_BLINDING_BITS, MOST_BLINDING_BITS, ScoringScale
from hessian.lending.decision import decisions_by_band
from hessian.lending.policy import BOUNDS, LONGEST_REASON, RatePolicy
from hessian.service.fields import DigestField, WeiRead
from lender_api.deployments.calibration import Calibrated
from lender_api.deployments.states import DeploymentState
from lender_api.models.outlines import Shape, Text
from lender_api.models.schemas import Integer, Wei128, Window
from lender_api.tables import Deployment

_BLINDING = Field(
    ge=LEAST_BLINDING_BITS,
    le=MOST_BLINDING_BITS,
    description="t: what a score has room for, and what a query may tell the lender at most, save one bit",
)
_BANDS = Field(ge=2, le=MOST_BANDS, description="Most probabilities that quotes can tell apart")
BlindingBits = Annotated[int, _BLINDING]
Bands = Annotated[int, _BANDS]


def _within(name: str, description: str, *, example: int) -> Any:
    """A number of the policy, with the bounds that the policy itself is held to."""
    least, most = BOUNDS[name]
    return Field(ge=least, le=most, description=description, examples=[example])


class PolicyIn(Shape):
    """What turns a probability of default into a decision and a yearly rate, in basis points; published (PROTOCOL §10).

    r = ⌈(10⁴·(funding + margin) + PD·LGD) / (10⁴ − PD)⌉; approved where PD ≤ cutoff and r ≤ cap; the rate is r rounded up to its tier.
    """

    cutoff_bps: Integer = _within("cutoff_bps", "Highest probability of default (PD) that is approved", example=2000)
    lgd_bps: Integer = _within("lgd_bps", "Loss given default (LGD)", example=6000)
    funding_bps: Integer = _within("funding_bps", "Yearly cost of the money that is lent, part of the rate", example=300)
    margin_bps: Integer = _within("margin_bps", "The lender's yearly margin, part of the rate", example=200)
    cap_bps: Integer = _within("cap_bps", "Highest yearly rate that is offered; who would need a higher one is declined", example=3000)
    tier_step_bps: Integer = _within("tier_step_bps", "Rates are rounded up to multiples of this, but not above the cap", example=50)
    quote_valid_seconds: Integer = _within(
        "quote_valid_seconds", "How long a quote holds from when this node makes it, by the chain's clock", example=86_400
    )
    quote_period_seconds: Integer = _within("quote_period_seconds", "An address gets one quote in this time", example=2_592_000)
    reasons: dict[Text, Annotated[str, Field(min_length=1, max_length=LONGEST_REASON)]] = Field(
        default_factory=dict,
        max_length=LARGEST_DIMENSION,
        description="Column to the reason that a declined borrower is given in open mode",
        examples=[{"dti": "Debt is high for the income"}],
    )

    def to_policy(self) -> RatePolicy:
        """Raises PolicyRefused."""
        return RatePolicy(**self.model_dump(exclude={"reasons"}), reasons=tuple(self.reasons.items()))


class CreateDeployment(Shape):
    """A wish to serve a trained model."""

    model: UUID = Field(description="This node's id of a model that reached its target")
    policy: PolicyIn
    fee_wei: Wei128 = Field(description="Paid for every answer; may be zero")
    answer_window: Window
    blinding_bits: Annotated[Integer, _BLINDING] = DEFAULT_BLINDING_BITS
    bands: Annotated[Integer, _BANDS] = DEFAULT_BANDS


class PolicyRead(PolicyIn):
    """The policy as published."""

    model_config = ConfigDict(extra="ignore")


class ReliabilityRead(BaseModel):
    """Rows that were given about the same probability by a table fitted without them."""

    rows: int = Field(examples=[160])
    predicted_bps: int = Field(examples=[412])
    observed_bps: int = Field(description="Share of them that went bad", examples=[437])


class ScaleRead(BaseModel):
    """The scoring scale: a score is an integer at 2^-(feature_bits + weight_bits) and fits blinding_bits with its sign."""

    feature_bits: int
    weight_bits: int
    largest_weight: int
    blinding_bits: int


class CalibrationRead(BaseModel):
    """How scores become probabilities of default, and how well: cross-validated on the model's validation rows."""

    method: str = Field(description="platt or isotonic: the one with the lower Brier score", examples=["platt"])
    rows: int = Field(examples=[1600])
    positives: int = Field(examples=[84])
    brier: dict[str, int] = Field(description="By method, in billionths", examples=[{"platt": 47_120_000, "isotonic": 47_310_000}])
    base_rate_brier: int = Field(description="Of the base rate alone, in billionths", examples=[49_700_000])
    curve: list[ReliabilityRead]
    thresholds: list[int] = Field(description="Scores at which the next band begins")
    probabilities_bps: list[int] = Field(description="Of each band; one more than thresholds")
    scale: ScaleRead

    @classmethod
    def of(cls, calibrated: Calibrated) -> Self:
        """From what was calibrated."""
        return cls.model_validate(
            {
                **calibrated.figures,
                "thresholds": list(calibrated.table.thresholds),
                "probabilities_bps": list(calibrated.table.probabilities),
                "scale": calibrated.scale.to_plain(),
            }
        )


class BandRead(BaseModel):
    """What everybody in a band is told."""

    from_score: int | None = Field(description="Null for the lowest band")
    pd_bps: int = Field(description="The band's probability of default in basis points", examples=[412])
    decision: str = Field(description="approve or decline", examples=["approve"])
    rate_bps: int | None = Field(description="The yearly rate in basis points; null on a decline", examples=[800])


class DeploymentRead(BaseModel):
    """A deployment of this lender."""

    id: UUID
    deployment_id: int | None = Field(description="The contract's number; null until it is final", examples=[1])
    model: UUID
    state: DeploymentState = Field(
        description="preparing: the weights are being encrypted at the scoring scale · publishing: the scoring model goes to IPFS · "
        "deploying: the transaction is on its way · serving: final on chain, borrowers may ask · retired: takes no new requests, those "
        "that wait are answered · failed: it never came to be"
    )
    reason: str | None = Field(description="Why it failed")
    policy: PolicyRead
    bands: list[BandRead] = Field(description="Every decision it can come to, by rising probability of default")
    calibration: CalibrationRead
    fee_wei: WeiRead
    answer_window: int = Field(examples=[3600])
    weights_digest: DigestField
    scoring_digest: DigestField | None = Field(description="The scoring model on IPFS; null until it is made")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Deployment) -> Self:
        """From its row."""
        table, policy = CalibrationTable.from_plain(row.calibration), RatePolicy.from_plain(row.policy)
        calibrated = Calibrated(row.weights_digest, ScoringScale.from_plain(row.scale), table, row.figures)
        bands = zip([None, *table.thresholds], decisions_by_band(policy, table), strict=True)
        return cls(
            id=row.id,
            deployment_id=row.deployment_id,
            model=row.model,
            state=DeploymentState(row.state),
            reason=row.reason,
            policy=PolicyRead.model_validate({**row.policy, "reasons": dict(policy.reasons)}),
            bands=[
                BandRead(from_score=low, pd_bps=one.pd_bps, decision="approve" if one.approved else "decline", rate_bps=one.rate_bps)
                for low, one in bands
            ],
            calibration=CalibrationRead.of(calibrated),
            fee_wei=row.fee_wei,
            answer_window=row.answer_window,
            weights_digest=row.weights_digest,
            scoring_digest=row.scoring_digest,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
