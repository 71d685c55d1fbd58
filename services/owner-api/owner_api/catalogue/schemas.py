"""Models as the catalogue shows them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hessian.chain.records import Terms
from hessian.learning.columns import Feature, Numeric
from hessian.learning.plain import BILLION
from hessian.privacy.requirement import PrivacyRequirement, in_words
from hessian.service.fields import AddressField, DigestField, WeiRead


class TermsRead(BaseModel):
    """The contract's terms. Money in wei, errors in billionths, windows in seconds, the deadline in seconds since 1970."""

    bounty: WeiRead
    base_fee: WeiRead
    member_bond: WeiRead
    initial_error: int
    target_error: int
    max_rounds: int
    cohort_size: int
    row_cap: int
    split_rule: str = Field(examples=["by_rows"])
    submit_window: int
    accept_window: int
    unlock_window: int
    evaluate_window: int
    training_deadline: int

    @classmethod
    def of(cls, terms: Terms) -> TermsRead:
        """From the contract's record."""
        plain = {name: int(getattr(terms, name)) for name in cls.model_fields if name != "split_rule"}
        return cls(**plain, split_rule=terms.split_rule.name.lower())


class NumericRead(BaseModel):
    """A column of numbers. A cell that is neither a number in the range nor one of `missing` is refused."""

    kind: Literal["numeric"] = "numeric"
    name: str
    minimum: str = Field(description="A decimal number, inclusive")
    maximum: str = Field(description="A decimal number, inclusive")
    missing: list[str] = Field(
        description="Send null or one of these where the number is missing (in a dataset's file: one of these); empty: a number is required"
    )
    unit: str = Field(description="May stand behind the number and is dropped; empty: nothing may")


class CategoryRead(BaseModel):
    """A column of words."""

    kind: Literal["category"] = "category"
    name: str
    values: list[str] = Field(description="The cells the model tells apart or groups, as they must be spelt")
    takes_others: bool = Field(description="Any other cell is read as 'other'; if false, it is refused")


FeatureRead = Annotated[NumericRead | CategoryRead, Field(discriminator="kind")]


def feature_read(feature: Feature) -> NumericRead | CategoryRead:
    """What a dataset's column must look like."""
    if isinstance(feature, Numeric):
        return NumericRead(
            name=feature.name,
            minimum=_decimal(feature.minimum),
            maximum=_decimal(feature.maximum),
            missing=list(feature.missing_values),
            unit=feature.unit,
        )
    return CategoryRead(name=feature.name, values=list(feature.level_of), takes_others=feature.other is not None)


def _decimal(billionths: int) -> str:
    text = f"{Decimal(billionths) / BILLION:f}"  # exact: at most 19 digits
    return text.rstrip("0").rstrip(".") if "." in text else text


class RequirementRead(BaseModel):
    """The differential privacy a model requires of every member. Decimal numbers as text."""

    epsilon: str = Field(description="Of one release, checked by this node against the noise")
    delta: str
    clip_norm: str = Field(description="Rows longer than this are shortened; the intercept's 1 counts")


def privacy_read(privacy: PrivacyRequirement, feature_bits: int) -> RequirementRead:
    """A requirement as the catalogue shows it."""
    clip_norm = f"{(Decimal(privacy.clip_norm) / (1 << feature_bits)).normalize():f}"
    return RequirementRead(epsilon=in_words(privacy.epsilon), delta=in_words(privacy.delta), clip_norm=clip_norm)


class ManifestRead(BaseModel):
    """What the verified manifest says."""

    name: str
    description: str
    dimension: int
    columns: list[str] = Field(description="Every column the model reads, the label's last")
    features: list[FeatureRead] = Field(description="What those columns may hold")
    label: str = Field(description="The label's column; a cell that is neither positive nor negative is refused")
    positive: list[str] = Field(description="The label's cells for a loan that went bad")
    negative: list[str] = Field(description="The label's cells for a loan that was repaid")
    loss: str
    local_steps: int = Field(description="Steps that a member takes on its own rows before each sum")
    metric: str
    privacy: RequirementRead | None = Field(description="Null where members add no noise")
    key_bits: int


class CatalogueModelRead(BaseModel):
    """A model as of the final block."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_id": 1,
                    "lender": "0x52908400098527886E0F7030069857D2E4169EE7",
                    "state": "open",
                    "is_closed": False,
                    "best_error": 250000000,
                    "rounds_paid": 0,
                    "terms": {
                        "bounty": "1000000000000000000",
                        "base_fee": "1000000000000000",
                        "member_bond": "10000000000000000",
                        "initial_error": 250000000,
                        "target_error": 200000000,
                        "max_rounds": 8,
                        "cohort_size": 5,
                        "row_cap": 1000000,
                        "split_rule": "by_rows",
                        "submit_window": 3600,
                        "accept_window": 3600,
                        "unlock_window": 3600,
                        "evaluate_window": 3600,
                        "training_deadline": 1800000000,
                    },
                    "manifest_digest": "0x" + "ab" * 32,
                    "manifest": {
                        "name": "consumer loans",
                        "description": "probability of default",
                        "dimension": 42,
                        "columns": ["int_rate", "term", "Class"],
                        "features": [
                            {"kind": "numeric", "name": "int_rate", "minimum": "0", "maximum": "100", "missing": ["", "NA"], "unit": "%"},
                            {"kind": "category", "name": "term", "values": ["term_36", "term_60"], "takes_others": False},
                        ],
                        "label": "Class",
                        "positive": ["bad"],
                        "negative": ["good"],
                        "loss": "squared",
                        "local_steps": 1,
                        "metric": "squared-error",
                        "privacy": {"epsilon": "1", "delta": "0.000001", "clip_norm": "3.5"},
                        "key_bits": 3072,
                    },
                    "problem": None,
                    "cohort_id": 3,
                    "members": "4/5",
                    "objections": [],
                }
            ]
        }
    )

    model_id: int
    lender: AddressField
    state: str = Field(description="As in the contract: open, trained, exhausted, expired, defaulted or cancelled")
    is_closed: bool
    best_error: int = Field(description="billionths")
    rounds_paid: int
    terms: TermsRead
    manifest_digest: DigestField
    manifest: ManifestRead | None = Field(description="Null when this node refused the manifest")
    problem: str | None = Field(description="Why the manifest was refused; null: it was not")
    cohort_id: int = Field(description="The cohort that fills now")
    members: str = Field(description="Members in that cohort / members it needs")
    objections: list[str] = Field(description="What this node's policy has against it; empty: nothing")
