"""Models on the wire."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hessian.chain.records import SplitRule, Terms
from hessian.identifiers import ErrorUnits, Timestamp, Wei
from hessian.learning.decisions import MOST_DECISIONS
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.objective import LARGEST_LOCAL_STEPS, STEP_BITS, Objective
from hessian.privacy.requirement import UNIT, in_words
from hessian.service.fields import DigestField, WeiIn, WeiRead
from lender_api.models.fit import PrivacyWish
from lender_api.models.outlines import DecisionIO, FeatureOutline, Real, Shape, Text, is_printable, to_billionths
from lender_api.models.states import ModelState

LONGEST_WINDOW = 14 * 24 * 3600
LARGEST_COHORT = 64
_UINT128, _UINT64, _UINT32 = 2**128 - 1, 2**64 - 1, 2**32 - 1


def _uint128(value: int) -> int:
    if value > _UINT128:
        raise ValueError("the contract counts this in 128 bits")
    return value


Wei128 = Annotated[WeiIn, AfterValidator(_uint128)]
Integer = Annotated[int, Field(strict=True)]
"""A JSON integer: `true`, `"5"` and `5.0` are refused."""

Window = Annotated[Integer, Field(ge=1, le=LONGEST_WINDOW, description="Seconds; the contract has a least one", examples=[3600])]


class ObjectiveIn(Shape):
    """What is minimised and how a round moves there (PROTOCOL §3)."""

    loss: Literal["squared", "logistic-taylor1"] = "squared"
    ridge: Real = Field(default=Decimal(0), ge=0, le=16, description="Added to the curvature of every entry but the intercept")
    local_steps: Integer = Field(
        default=1,
        ge=1,
        le=LARGEST_LOCAL_STEPS,
        description="Steps each member takes by itself before a sum. More than 1, on unlike owners, ends elsewhere than pooled training",
    )
    method: Literal["fixed", "grid", "conjugate-gradients"] = Field(
        default="fixed",
        description="How this node uses an opened gradient: the published step; the best of a published grid by the validation error; "
        "or the minimiser over all that the cohort answered so far, then a step of the grid",
    )

    def to_objective(self) -> Objective:
        """As the manifest holds it. Raises ObjectiveRefused."""
        return Objective(self.loss, int(self.ridge * 2**STEP_BITS), self.local_steps, self.method)


class PrivacyIn(Shape):
    """Differential privacy that every member must add (PROTOCOL §5): for the replacement of one row, of everything one release tells."""

    epsilon: Annotated[Decimal, Field(gt=0, le=1000, max_digits=18, decimal_places=15)] = Field(examples=["1"])
    delta: Annotated[Decimal, Field(gt=0, le=Decimal("0.001"), max_digits=18, decimal_places=15)] = Field(
        default=Decimal("0.000001"), examples=["0.000001"]
    )
    clip_norm: Real | None = Field(
        default=None, gt=1, description="Longer rows are shortened to this; without it, what half of the validation rows keep"
    )

    def to_wish(self) -> PrivacyWish:
        """As the fit takes it."""
        return PrivacyWish(
            int(self.epsilon * UNIT), int(self.delta * UNIT), None if self.clip_norm is None else to_billionths(self.clip_norm)
        )


class TermsIn(Shape):
    """Price, size and windows: immutable once the model is on chain (PROTOCOL §7)."""

    bounty_wei: Wei128 = Field(description="Paid in parts as the error falls to the target")
    base_fee_wei: Wei128 = Field(description="Paid for every round that is reported, whatever it brought")
    member_bond_wei: Wei128 = Field(description="What a member stands to lose by silence; at least the base fee")
    target_error: Integer = Field(
        ge=0, le=_UINT64, description="Validation error that earns the whole bounty, in billionths", examples=[42_000_000]
    )
    max_rounds: Integer = Field(ge=1, le=_UINT32, examples=[8])
    row_cap: Integer = Field(ge=1, le=_UINT32, description="Rows one member may declare at most", examples=[100_000])
    split_rule: Literal["equal", "by_rows"] = "by_rows"
    submit_window: Window
    accept_window: Window
    unlock_window: Window
    evaluate_window: Window
    training_deadline: Integer = Field(ge=1, le=_UINT64, description="Seconds since 1970 by the chain's clock", examples=[1_900_000_000])

    def to_record(self, *, initial_error: ErrorUnits, cohort_size: int) -> Terms:
        """The contract's struct."""
        return Terms(
            bounty=Wei(self.bounty_wei),
            base_fee=Wei(self.base_fee_wei),
            member_bond=Wei(self.member_bond_wei),
            initial_error=initial_error,
            target_error=ErrorUnits(self.target_error),
            max_rounds=self.max_rounds,
            cohort_size=cohort_size,
            row_cap=self.row_cap,
            split_rule=SplitRule[self.split_rule.upper()],
            submit_window=self.submit_window,
            accept_window=self.accept_window,
            unlock_window=self.unlock_window,
            evaluate_window=self.evaluate_window,
            training_deadline=Timestamp(self.training_deadline),
        )


class CreateModel(Shape):
    """A wish for a model: fitted and refused at once where it cannot work, made and put on chain in the background."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Consumer loans 2026",
                    "validation_set_id": "5d3a2f6e-0c1b-4f39-8f0f-1f0e6b1f4a22",
                    "features": [
                        {"kind": "numeric", "name": "int_rate", "minimum": "0", "maximum": "40"},
                        {
                            "kind": "category",
                            "name": "term",
                            "levels": [{"name": "short", "values": ["36 months"]}, {"name": "long", "values": ["60 months"]}],
                        },
                    ],
                    "key_bits": 3072,
                    "cohort_size": 5,
                    "terms": {
                        "bounty_wei": "1000000000000000000",
                        "base_fee_wei": "10000000000000000",
                        "member_bond_wei": "10000000000000000",
                        "target_error": 42_000_000,
                        "max_rounds": 8,
                        "row_cap": 100_000,
                        "split_rule": "by_rows",
                        "submit_window": 3600,
                        "accept_window": 3600,
                        "unlock_window": 3600,
                        "evaluate_window": 3600,
                        "training_deadline": 1_900_000_000,
                    },
                }
            ]
        }
    )

    name: Text = Field(examples=["Consumer loans 2026"])
    description: Annotated[str, Field(max_length=4000), AfterValidator(is_printable)] = ""
    validation_set_id: UUID
    features: list[FeatureOutline] = Field(min_length=1, max_length=LARGEST_DIMENSION)
    feature_bits: Integer = Field(default=16, ge=1, le=24, description="Fixed point of a standardised feature")
    clip_deviations: Integer = Field(
        default=4, ge=1, le=100, description="Numbers are clipped this many standard deviations from their mean"
    )
    relevance_floor: Real = Field(
        default=Decimal("0.05"),
        gt=0,
        le=1,
        description="Least weight of a feature in the published scaling (by correlation with the label); 1 scales all alike",
    )
    preparation: list[DecisionIO] = Field(
        default=[], max_length=MOST_DECISIONS, description="What was decided about each column, and why: published with the model"
    )
    objective: ObjectiveIn = ObjectiveIn()
    privacy: PrivacyIn | None = Field(default=None, description="Absent: members add no noise, and none of them joins another cohort")
    key_bits: Integer = Field(
        default=3072, ge=512, le=8192, multiple_of=2, description="Paillier modulus; 2048 is the least that is accepted"
    )
    cohort_size: Integer = Field(
        ge=1, le=LARGEST_COHORT, description="Members of a cohort; 1 shows the lender that member's statistics", examples=[5]
    )
    terms: TermsIn

    def relevance_floor_billionths(self) -> int:
        """As the fit takes it."""
        return max(1, to_billionths(self.relevance_floor))


class TermsRead(TermsIn):
    """The terms as stored, wei as strings."""

    model_config = ConfigDict(extra="ignore")
    bounty_wei: WeiRead
    base_fee_wei: WeiRead
    member_bond_wei: WeiRead


class PrivacyRead(BaseModel):
    """What the manifest requires of members. Decimal numbers as text."""

    epsilon: str = Field(examples=["1"])
    delta: str = Field(examples=["0.000001"])

    @classmethod
    def of(cls, stored: dict[str, Any]) -> PrivacyRead:
        """From the manifest's form."""
        return cls(epsilon=in_words(stored["epsilon"]), delta=in_words(stored["delta"]))


class ModelRead(BaseModel):
    """A model of this lender."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())

    id: UUID
    model_id: int | None = Field(description="The contract's number; null until the creation is final", examples=[1])
    name: str
    description: str
    state: ModelState = Field(
        description="preparing: the key pair and the encrypted weights are being made · publishing: manifest and weights go to IPFS · "
        "creating: the transaction is on its way · open: final on chain, the bounty in escrow · trained: the target error is reached · "
        "exhausted: all rounds are paid · expired: past its training deadline · defaulted: a round was not reported in time · "
        "cancelled: closed by the lender while open · failed: it never came to be"
    )
    reason: str | None = Field(description="Why it failed")
    validation_set_id: UUID
    key_bits: int
    cohort_size: int
    features: list[str] = Field(description="The model's entries in order", examples=[["intercept", "int_rate", "term=long"]])
    terms: TermsRead
    privacy: Annotated[PrivacyRead | None, BeforeValidator(lambda stored: PrivacyRead.of(stored) if isinstance(stored, dict) else stored)]
    escrow_wei: WeiRead = Field(description="bounty + base fee · rounds, paid at the creation")
    initial_error: int = Field(description="Validation error before the first round, in billionths", examples=[49_000_000])
    best_error: int = Field(description="Best validation error so far", examples=[46_500_000])
    rounds_paid: int
    manifest_digest: DigestField | None
    weights_digest: DigestField | None = Field(description="The encrypted weights that the next round starts from")
    is_closed: bool
    refund_wei: WeiRead | None = Field(description="What closing gave back, as credit")
    created_at: datetime
    updated_at: datetime


class WeightsRead(BaseModel):
    """The lender's own model in plain: weight = integer · 2^−scale_bits, for the entries in `features`."""

    version: int = Field(description="0 is the start; every reported round adds one", examples=[3])
    digest: DigestField = Field(description="Of the encrypted form that was published")
    error: int = Field(description="On the validation rows, in billionths")
    scale_bits: int = Field(examples=[24])
    features: list[str]
    weights: list[int] = Field(examples=[[-83886, 1258291]])
