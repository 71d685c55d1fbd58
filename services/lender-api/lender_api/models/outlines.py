"""Feature outlines on the wire: what a proposal answers with, and what a wish for a model brings."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hessian.learning.decisions import LONGEST_REASON, Decision, Use
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.fitting import CategoryOutline, NumericOutline
from hessian.learning.plain import BILLION, LARGEST_INTEGER, decimal

_LARGEST_REAL = Decimal(decimal(LARGEST_INTEGER))


class Shape(BaseModel):
    """What comes in is closed: a field nobody knows is refused."""

    model_config = ConfigDict(extra="forbid")


def is_printable(text: str) -> str:
    """Raises ValueError, as pydantic wants it."""
    if not text.replace("\n", " ").isprintable():
        raise ValueError("control characters and lone surrogates cannot be used")
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(is_printable)]
Real = Annotated[Decimal, Field(max_digits=19, decimal_places=9, ge=-_LARGEST_REAL, le=_LARGEST_REAL)]
MissingValue = Annotated[str, Field(max_length=200)]


class NumericFeature(Shape):
    """A numeric column. A cell outside the legal range is refused, by every node; a value outside the clips is clipped.

    Without clips of its own a column is clipped at the model's `clip_deviations`. A missing value counts as the column's mean.
    """

    kind: Literal["numeric"]
    name: Text = Field(examples=["int_rate"])
    minimum: Real = Field(examples=["0"])
    maximum: Real = Field(examples=["40"])
    clip: tuple[Real, Real] | None = Field(default=None, description="Lowest and highest value that still tells a difference")
    missing_values: list[MissingValue] = Field(
        default=[],
        max_length=100,
        description="Raw cells that mean a missing value; without them an empty cell is refused",
        examples=[["", "NA"]],
    )
    indicator: bool = Field(default=False, strict=True, description="Whether a missing value has an entry of its own as well")
    unit: str = Field(default="", max_length=10, description="What may stand behind the number, and is dropped", examples=["%"])

    def to_outline(self) -> NumericOutline:
        """In billionths."""
        clip = None if self.clip is None else (to_billionths(self.clip[0]), to_billionths(self.clip[1]))
        low, high = to_billionths(self.minimum), to_billionths(self.maximum)
        return NumericOutline(self.name, low, high, clip, tuple(self.missing_values), self.indicator, self.unit)

    @classmethod
    def of(cls, outline: NumericOutline) -> NumericFeature:
        """The inverse of `to_outline`."""
        clip = None if outline.clip is None else (Decimal(decimal(outline.clip[0])), Decimal(decimal(outline.clip[1])))
        return cls(
            kind="numeric",
            name=outline.name,
            minimum=Decimal(decimal(outline.minimum)),
            maximum=Decimal(decimal(outline.maximum)),
            clip=clip,
            missing_values=list(outline.missing_values),
            indicator=outline.indicator,
            unit=outline.unit,
        )


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

    @classmethod
    def of(cls, outline: CategoryOutline) -> CategoryFeature:
        """The inverse of `to_outline`."""
        return cls(
            kind="category", name=outline.name, levels=[LevelOutline(name=name, values=list(values)) for name, values in outline.levels]
        )


FeatureOutline = Annotated[NumericFeature | CategoryFeature, Field(discriminator="kind")]


class DecisionIO(Shape):
    """What was decided about one column, and why: published in the manifest, for people."""

    column: Text = Field(examples=["recoveries"])
    use: Use = Field(examples=["left out"])
    reason: Annotated[str, Field(min_length=1, max_length=LONGEST_REASON), AfterValidator(is_printable)] = Field(
        examples=["known only after the loan was paid out: it would tell how the loan went"]
    )

    def to_decision(self) -> Decision:
        """As the manifest holds it."""
        return Decision(self.column, self.use, self.reason)


class ProposalRead(BaseModel):
    """An outline to look at, edit and send back when a model is created: `features` and `preparation` go there as they are."""

    model_config = ConfigDict(frozen=True)

    features: list[FeatureOutline]
    preparation: list[DecisionIO] = Field(description="One for every column but the label, with the reason")
    entries: int = Field(description="Of a model with these features, its intercept included", examples=[33])

    @classmethod
    def of(cls, features: Sequence[NumericOutline | CategoryOutline], decisions: Sequence[Decision]) -> ProposalRead:
        """From the library's."""
        outlines: list[FeatureOutline] = [
            NumericFeature.of(each) if isinstance(each, NumericOutline) else CategoryFeature.of(each) for each in features
        ]
        entries = 1 + sum(1 + each.indicator if isinstance(each, NumericFeature) else len(each.levels) for each in outlines)
        preparation = [DecisionIO(column=each.column, use=each.use, reason=each.reason) for each in decisions]
        return cls(features=outlines, preparation=preparation, entries=entries)


def to_billionths(value: Decimal) -> int:
    """Exactly: no more than nine decimals get here."""
    return int(value * BILLION)
