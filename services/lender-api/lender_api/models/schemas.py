"""Models on the wire."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hessian.chain.records import SplitRule, Terms
from hessian.identifiers import ErrorUnits, Timestamp, Wei
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.fitting import CategoryOutline, NumericOutline
from hessian.learning.plain import BILLION
from hessian.service.fields import DigestField, WeiIn, WeiRead
from lender_api.models.states import ModelState

LONGEST_WINDOW = 14 * 24 * 3600
LARGEST_COHORT = 64
_UINT128, _UINT64, _UINT32 = 2**128 - 1, 2**64 - 1, 2**32 - 1


class Shape(BaseModel):
    """What comes in is closed: a field nobody knows is refused."""

    model_config = ConfigDict(extra="forbid")


def _is_printable(text: str) -> str:
    if not text.replace("\n", " ").isprintable():
        raise ValueError("control characters and lone surrogates cannot be used")
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_printable)]
Real = Annotated[Decimal, Field(max_digits=18, decimal_places=9, ge=-(10**9), le=10**9)]


def _uint128(value: int) -> int:
    if value > _UINT128:
        raise ValueError("the contract counts this in 128 bits")
    return value


Wei128 = Annotated[WeiIn, AfterValidator(_uint128)]
Integer = Annotated[int, Field(strict=True)]
"""A JSON integer: `true`, `"5"` and `5.0` are refused."""

Window = Annotated[Integer, Field(ge=1, le=LONGEST_WINDOW, description="Seconds; the contract has a least one", examples=[3600])]


class NumericFeature(Shape):
    """A numeric column. A cell outside the legal range is refused, by every node; a value outside the clips is clipped.

    Without clips of its own a column is clipped at the model's `clip_deviations`.
    """

    kind: Literal["numeric"]
    name: Text = Field(examples=["int_rate"])
    minimum: Real = Field(examples=["0"])
    maximum: Real = Field(examples=["40"])
    clip: tuple[Real, Real] | None = Field(default=None, description="Lowest and highest value that still tells a difference")

    def to_outline(self) -> NumericOutline:
        """In billionths."""
        clip = None if self.clip is None else (_billionths(self.clip[0]), _billionths(self.clip[1]))
        return NumericOutline(self.name, _billionths(self.minimum), _billionths(self.maximum), clip)


class LevelOutline(Shape):
    """One level of a category and the raw cells that belong to it."""

    name: Text = Field(examples=["long"])
    values: list[Annotated[str, Field(max_length=200)]] = Field(max_length=10_000, examples=[["60 months"]])


class CategoryFeature(Shape):
    """A categorical column: one entry of the model per level. A level called "other" takes the cells that no level names."""

    kind: Literal["category"]
    name: Text = Field(examples=["term"])
    levels: list[LevelOutline] = Field(min_length=1, max_length=LARGEST_DIMENSION)

    def to_outline(self) -> CategoryOutline:
        """As the fit takes it."""
        return CategoryOutline(self.name, tuple((level.name, tuple(level.values)) for level in self.levels))


FeatureOutline = Annotated[NumericFeature | CategoryFeature, Field(discriminator="kind")]


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
    description: Annotated[str, Field(max_length=4000), AfterValidator(_is_printable)] = ""
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
    key_bits: Integer = Field(
        default=3072, ge=512, le=8192, multiple_of=2, description="Paillier modulus; 2048 is the least that is accepted"
    )
    cohort_size: Integer = Field(
        ge=1, le=LARGEST_COHORT, description="Members of a cohort; 1 shows the lender that member's statistics", examples=[5]
    )
    terms: TermsIn

    def relevance_floor_billionths(self) -> int:
        """As the fit takes it."""
        return max(1, _billionths(self.relevance_floor))


class TermsRead(TermsIn):
    """The terms as stored, wei as strings."""

    model_config = ConfigDict(extra="ignore")
    bounty_wei: WeiRead
    base_fee_wei: WeiRead
    member_bond_wei: WeiRead


class ModelRead(BaseModel):
    """A model of this lender."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())

    id: UUID
    model_id: int | None = Field(description="The contract's number, once the creation is final", examples=[1])
    name: str
    description: str
    state: ModelState
    reason: str | None = Field(description="Why it failed")
    validation_set_id: UUID
    key_bits: int
    cohort_size: int
    features: list[str] = Field(description="The model's entries in order", examples=[["intercept", "int_rate", "term=long"]])
    terms: TermsRead
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


def _billionths(value: Decimal) -> int:
    return int(value * BILLION)
