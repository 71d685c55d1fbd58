"""The columns a feature specification is made of: numbers with their range, clips and scale, categories with their levels, and the label.

All real parameters are integers in billionths. Each class refuses what could not be used; `to_plain`/`from_plain` are the manifest's form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Malformed
from hessian.learning.cells import NUMBER, numbers, positions
from hessian.learning.plain import BILLION, LARGEST_INTEGER, Fields, Plain, ShapeRefused

MOST_LEVELS = 1024
MOST_VALUES = 10_000  # raw values one level, or one side of the label, may name
OTHER = "other"  # the level of this name takes every cell that no level names
MISSING = "missing"  # what the entry is called that says a number is
LONGEST_UNIT = 10
_IN_A_NUMBER = frozenset("0123456789.eE+- \t")
_NUMBER = re.compile(NUMBER, re.ASCII)

Columns = Mapping[str, Sequence[str]]
"""A batch of raw cells by column name, all columns of one length."""


class SpecificationRefused(Malformed):
    """The feature specification cannot be used as it stands."""


class ColumnMissing(Malformed):
    """A column that the specification reads is not in the data."""


def column_of(columns: Columns, name: str) -> Sequence[str]:
    """One column's cells. Raises ColumnMissing."""
    try:
        return columns[name]
    except KeyError as error:
        raise ColumnMissing(f"the column {name!r} is missing") from error


@dataclass(frozen=True)
class Indicator:
    """An entry that is ([something holds] − mean) / scale, both in billionths."""

    mean: int
    scale: int

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= BILLION or self.scale < 1:
            raise SpecificationRefused("the mean of an indicator must lie between 0 and 1 and its scale be positive")

    @property
    def reach(self) -> tuple[int, int]:
        """(numerator, denominator): |entry| ≤ numerator / denominator."""
        return max(self.mean, BILLION - self.mean), self.scale


@dataclass(frozen=True)
class Level:
    """One level of a category: the raw cells that belong to it, and its entry's mean and scale in billionths."""

    name: str
    values: tuple[str, ...]
    mean: int
    scale: int

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= BILLION or self.scale < 1:
            raise SpecificationRefused(f"level {self.name!r}: its mean must lie between 0 and 1 and its scale be positive")

    @property
    def indicator(self) -> Indicator:
        """Its entry."""
        return Indicator(self.mean, self.scale)


@dataclass(frozen=True)
class Numeric:
    """One numeric column. All parameters in billionths. A cell outside [minimum, maximum] is refused, one outside the clips clipped.

    `missing_values` are the raw cells that mean "no value": the number's entry is then 0, the column's mean, and `indicator` gives them a
    second entry that says so. `unit` is what may stand behind the number ("%"), and is dropped.
    """

    name: str
    minimum: int
    maximum: int
    clip_low: int
    clip_high: int
    mean: int
    scale: int
    missing_values: tuple[str, ...] = ()
    indicator: Indicator | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.minimum <= self.clip_low <= self.clip_high <= self.maximum:
            raise SpecificationRefused(f"column {self.name!r}: minimum ≤ clip_low ≤ clip_high ≤ maximum does not hold")
        if self.scale < 1:
            raise SpecificationRefused(f"column {self.name!r}: the scale must be positive")
        check_number_cells(self.name, self.missing_values, self.unit, has_indicator=self.indicator is not None)

    @property
    def entry_names(self) -> tuple[str, ...]:
        """One name per entry of φ(x)."""
        return (self.name, f"{self.name}={MISSING}") if self.indicator else (self.name,)

    @property
    def reaches(self) -> tuple[tuple[int, int], ...]:
        """Per entry (numerator, denominator): |entry| ≤ numerator / denominator."""
        own = (max(abs(self.clip_low - self.mean), abs(self.clip_high - self.mean)), self.scale)
        return (own, self.indicator.reach) if self.indicator else (own,)


def check_number_cells(column: str, missing_values: tuple[str, ...], unit: str, *, has_indicator: bool) -> None:
    """What may stand in a numeric column beside numbers must not look like one. Raises SpecificationRefused."""
    if len(set(missing_values)) != len(missing_values) or (has_indicator and not missing_values):
        raise SpecificationRefused(f"column {column!r}: missing values need raw cells that mean them, each named once")
    if any(value != value.strip() or _NUMBER.fullmatch(value) for value in missing_values):
        raise SpecificationRefused(f"column {column!r}: a raw cell that is a number, or has blanks around it, cannot mean a missing value")
    if len(unit) > LONGEST_UNIT or set(unit) & _IN_A_NUMBER:
        raise SpecificationRefused(f"column {column!r}: a unit has at most {LONGEST_UNIT} characters, none of them part of a number")


@dataclass(frozen=True)
class Category:
    """One categorical column, one entry per level. A cell that no level names belongs to the level "other"; without one it is refused."""

    name: str
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        names = [level.name for level in self.levels]
        if not names or len(set(names)) != len(names):
            raise SpecificationRefused(f"column {self.name!r}: a category needs levels with different names")
        if len(self.level_of) != sum(len(level.values) for level in self.levels):
            raise SpecificationRefused(f"column {self.name!r}: a raw value is named twice")
        if any(not level.values and level.name != OTHER for level in self.levels):
            raise SpecificationRefused(f"column {self.name!r}: only the level {OTHER!r} may name no raw values")

    @cached_property
    def level_of(self) -> Mapping[str, int]:
        """Raw cell → position of its level."""
        return {value: position for position, level in enumerate(self.levels) for value in level.values}

    @property
    def other(self) -> int | None:
        """Position of the level that takes unseen cells, if there is one."""
        return next((position for position, level in enumerate(self.levels) if level.name == OTHER), None)

    @property
    def entry_names(self) -> tuple[str, ...]:
        """One name per entry of φ(x)."""
        return tuple(f"{self.name}={level.name}" for level in self.levels)

    @property
    def reaches(self) -> tuple[tuple[int, int], ...]:
        """Per entry (numerator, denominator): |entry| ≤ numerator / denominator."""
        return tuple(level.indicator.reach for level in self.levels)


Feature = Numeric | Category
Parsed: TypeAlias = "NDArray[np.float64] | NDArray[np.int64]"
"""One column that was read: a number's values, NaN where missing; or the position of each cell's level."""

_NUMERIC_PARAMETERS = ("minimum", "maximum", "clip_low", "clip_high", "mean", "scale")


@dataclass(frozen=True)
class Label:
    """The label column: the raw cells that mean y = 1 (the loan went bad) and those that mean y = 0. Any other cell is refused."""

    column: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.positive or not self.negative or set(self.positive) & set(self.negative):
            raise SpecificationRefused("the label needs positive values and negative values, none of them both")

    def read(self, columns: Columns, *, first_row: int = 1) -> NDArray[np.int64]:
        """y in {0, 1} per row. Raises CellRefused."""
        known = {**dict.fromkeys(self.negative, 0), **dict.fromkeys(self.positive, 1)}
        return positions(column_of(columns, self.column), self.column, known, first_row=first_row)


def parse_cells(feature: Feature, cells: Sequence[str], *, first_row: int = 1) -> Parsed:
    """Values of a number (NaN where missing), or the position of each cell's level. Raises CellRefused."""
    if isinstance(feature, Category):
        return positions(cells, feature.name, feature.level_of, otherwise=feature.other, first_row=first_row)
    low, high = feature.minimum / BILLION, feature.maximum / BILLION
    return numbers(cells, feature.name, low, high, missing=frozenset(feature.missing_values), unit=feature.unit, first_row=first_row)


def feature_to_plain(feature: Feature) -> dict[str, Plain]:
    """A map whose `kind` is "numeric" or "category"."""
    if isinstance(feature, Numeric):
        own = {name: getattr(feature, name) for name in ("name", *_NUMERIC_PARAMETERS, "unit")}
        indicator: list[Plain] = [{"mean": feature.indicator.mean, "scale": feature.indicator.scale}] if feature.indicator else []
        return {"kind": "numeric", **own, "missing_values": list(feature.missing_values), "indicator": indicator}
    levels: list[Plain] = [_level_to_plain(level) for level in feature.levels]
    return {"kind": "category", "name": feature.name, "levels": levels}


def feature_from_plain(fields: Fields) -> Feature:
    """The inverse of `feature_to_plain`. Raises ShapeRefused, SpecificationRefused."""
    kind, name = fields.text("kind"), fields.text("name")
    feature: Feature
    if kind == "numeric":
        parameters = {parameter: fields.integer(parameter, -LARGEST_INTEGER, LARGEST_INTEGER) for parameter in _NUMERIC_PARAMETERS}
        missing = fields.texts("missing_values", MOST_VALUES, may_be_empty=True)
        indicators = [_indicator_from_plain(item) for item in fields.records("indicator", 1)]
        unit = fields.text("unit", LONGEST_UNIT, may_be_empty=True)
        feature = Numeric(name, **parameters, missing_values=missing, indicator=indicators[0] if indicators else None, unit=unit)
    elif kind == "category":
        feature = Category(name, tuple(_level_from_plain(item) for item in fields.records("levels", MOST_LEVELS)))
    else:
        raise ShapeRefused(f"{fields.place}.kind must be numeric or category")
    fields.done()
    return feature


def label_to_plain(label: Label) -> dict[str, Plain]:
    """The label as a map."""
    return {"column": label.column, "positive": list(label.positive), "negative": list(label.negative)}


def label_from_plain(fields: Fields) -> Label:
    """The inverse of `label_to_plain`. Raises ShapeRefused, SpecificationRefused."""
    label = Label(fields.text("column"), fields.texts("positive", MOST_VALUES), fields.texts("negative", MOST_VALUES))
    fields.done()
    return label


def _indicator_from_plain(fields: Fields) -> Indicator:
    indicator = Indicator(fields.integer("mean", 0, BILLION), fields.integer("scale", 1, LARGEST_INTEGER))
    fields.done()
    return indicator


def _level_to_plain(level: Level) -> dict[str, Plain]:
    return {"name": level.name, "values": list(level.values), "mean": level.mean, "scale": level.scale}


def _level_from_plain(fields: Fields) -> Level:
    values = fields.texts("values", MOST_VALUES, may_be_empty=True)
    level = Level(fields.text("name"), values, fields.integer("mean", 0, BILLION), fields.integer("scale", 1, LARGEST_INTEGER))
    fields.done()
    return level
