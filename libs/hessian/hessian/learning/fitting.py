"""From an outline (columns, legal ranges, levels) to a feature specification, fitted on the lender's own validation rows only.

Numbers are clipped at `clip_deviations` standard deviations and standardised; indicators are centred (PROTOCOL §3). Then every entry is
multiplied by √(relevance / largest relevance), where an entry's relevance is its |correlation with the label|, at least `relevance_floor`:
a diagonal preconditioner. Plain gradient steps move along the scaled axes, so that the first few already weigh the columns by what each
one tells, and columns of noise stay small. A floor of 1 switches it off. The scales are published, and with them these relevances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hessian.errors import Malformed
from hessian.learning.cells import numbers, positions
from hessian.learning.columns import (
    MOST_LEVELS,
    MOST_VALUES,
    Category,
    Columns,
    Feature,
    Indicator,
    Label,
    Level,
    Numeric,
    SpecificationRefused,
    check_number_cells,
    column_of,
    label_from_plain,
)
from hessian.learning.features import LARGEST_DIMENSION, FeatureSpecification, IntMatrix
from hessian.learning.plain import BILLION, Fields, ShapeRefused, billionths


class FitRefused(Malformed):
    """These validation rows cannot carry a specification."""


@dataclass(frozen=True)
class NumericOutline:
    """A numeric column and its legal range, in billionths; `clip` (low, high) where standard deviations do not fit the column.

    `missing_values`: the raw cells that mean "no value"; without any, such a cell is refused. `indicator`: whether they have an entry of
    their own. `unit`: what may stand behind a number.
    """

    name: str
    minimum: int
    maximum: int
    clip: tuple[int, int] | None = None
    missing_values: tuple[str, ...] = ()
    indicator: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise SpecificationRefused(f"column {self.name!r}: the minimum is above the maximum")
        if self.clip is not None and not self.minimum <= self.clip[0] <= self.clip[1] <= self.maximum:
            raise SpecificationRefused(f"column {self.name!r}: the clips must lie in order within the legal range")
        check_number_cells(self.name, self.missing_values, self.unit, has_indicator=self.indicator)


@dataclass(frozen=True)
class CategoryOutline:
    """A categorical column: level name → the raw cells that belong to it, in order."""

    name: str
    levels: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Outline:
    """What the lender writes by hand; `fit` finds the rest."""

    features: tuple[NumericOutline | CategoryOutline, ...]
    label: Label
    feature_bits: int = 16
    clip_deviations: int = 4
    relevance_floor: int = BILLION // 20

    def __post_init__(self) -> None:
        if not 1 <= self.clip_deviations <= 100 or not 1 <= self.relevance_floor <= BILLION:
            raise SpecificationRefused("clip_deviations must lie between 1 and 100 and relevance_floor above 0 and at most 1")

    @property
    def columns(self) -> tuple[str, ...]:
        """The CSV columns that are read, the label's last."""
        return (*(feature.name for feature in self.features), self.label.column)

    @classmethod
    def from_plain(cls, value: object, place: str = "outline") -> Outline:
        """From JSON; decimals are text ("0.05"), levels are a list of {"name", "values"}. Raises ShapeRefused, SpecificationRefused."""
        fields = Fields.of(value, place)
        features = tuple(_feature_from_plain(item) for item in fields.records("features", LARGEST_DIMENSION))
        outline = cls(
            features,
            label_from_plain(fields.record("label")),
            fields.integer("feature_bits", 1, 24),
            fields.integer("clip_deviations", 1, 100),
            billionths(fields.text("relevance_floor")),
        )
        fields.done()
        return outline


def fit(outline: Outline, columns: Columns) -> FeatureSpecification:
    """The specification these validation rows give. Raises CellRefused, ColumnMissing, FitRefused, SpecificationRefused."""
    labels = outline.label.read(columns)
    if len(labels) < 2 or labels.min() == labels.max():
        raise FitRefused("the validation rows need both label values")
    standardised = FeatureSpecification(
        tuple(_standardise(outline, feature, column_of(columns, feature.name)) for feature in outline.features),
        outline.label,
        outline.feature_bits,
    )
    factors = iter(_relevance_factors(standardised.design(columns), labels, outline.relevance_floor))
    features = tuple(_scaled(feature, [next(factors) for _ in feature.entry_names]) for feature in standardised.features)
    return FeatureSpecification(features, outline.label, outline.feature_bits)


def _standardise(outline: Outline, feature: NumericOutline | CategoryOutline, cells: Sequence[str]) -> Feature:
    if isinstance(feature, CategoryOutline):
        bare = Category(feature.name, tuple(Level(name, values, 0, BILLION) for name, values in feature.levels))
        level = positions(cells, feature.name, bare.level_of, otherwise=bare.other)
        shares = np.bincount(level, minlength=len(bare.levels)) / len(level)
        return Category(feature.name, tuple(replace(each, mean=_rounded(share)) for each, share in zip(bare.levels, shares, strict=True)))
    low, high = feature.minimum / BILLION, feature.maximum / BILLION
    cells_read = numbers(cells, feature.name, low, high, missing=frozenset(feature.missing_values), unit=feature.unit)
    values = cells_read[~np.isnan(cells_read)]
    if not len(values):
        raise FitRefused(f"column {feature.name!r} holds no value in the validation rows")
    middle, reach = float(values.mean()), outline.clip_deviations * float(values.std())
    clip_low = min(max(feature.minimum, _rounded(middle - reach)), feature.maximum)
    clip_high = max(clip_low, min(feature.maximum, _rounded(middle + reach)))
    clip_low, clip_high = feature.clip or (clip_low, clip_high)
    clipped = np.clip(values, clip_low / BILLION, clip_high / BILLION)
    # A constant column has clips and mean at one point: its entry is 0 for every row, whatever the scale.
    deviation = float(clipped.std()) if clip_low < clip_high else 1.0
    mean = min(max(clip_low, _rounded(float(clipped.mean()))), clip_high)
    share = _rounded(1 - len(values) / len(cells_read))
    indicator = Indicator(share, BILLION) if feature.indicator else None
    legal, clips, scale = (feature.minimum, feature.maximum), (clip_low, clip_high), max(1, _rounded(deviation))
    return Numeric(feature.name, *legal, *clips, mean, scale, feature.missing_values, indicator, feature.unit)


def _relevance_factors(entries: IntMatrix, labels: IntMatrix, floor: int) -> list[float]:
    """√(relevance / largest relevance) of every entry but the intercept."""
    x = entries[:, 1:] - entries[:, 1:].mean(axis=0)
    y = labels - labels.mean()
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    relevance = np.maximum(np.abs(x.T @ y) / np.where(spread > 0, spread, np.inf), floor / BILLION)
    factors: list[float] = np.sqrt(relevance / relevance.max()).tolist()
    return factors


def _scaled(feature: Feature, factors: Sequence[float]) -> Feature:
    if isinstance(feature, Numeric):
        indicator = feature.indicator and replace(feature.indicator, scale=round(feature.indicator.scale / factors[1]))
        return replace(feature, scale=round(feature.scale / factors[0]), indicator=indicator)
    levels = (replace(level, scale=round(level.scale / factor)) for level, factor in zip(feature.levels, factors, strict=True))
    return replace(feature, levels=tuple(levels))


def _rounded(value: float) -> int:
    return round(value * BILLION)


def _feature_from_plain(fields: Fields) -> NumericOutline | CategoryOutline:
    kind, name = fields.text("kind"), fields.text("name")
    feature: NumericOutline | CategoryOutline
    if kind == "numeric":
        feature = NumericOutline(name, billionths(fields.text("minimum")), billionths(fields.text("maximum")))
    elif kind == "category":
        feature = CategoryOutline(name, tuple(_level_from_plain(item) for item in fields.records("levels", MOST_LEVELS)))
    else:
        raise ShapeRefused(f"{fields.place}.kind must be numeric or category")
    fields.done()
    return feature


def _level_from_plain(fields: Fields) -> tuple[str, tuple[str, ...]]:
    level = fields.text("name"), fields.texts("values", MOST_VALUES, may_be_empty=True)
    fields.done()
    return level
