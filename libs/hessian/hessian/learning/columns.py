"""The columns a feature specification is made of: numbers with their range, clips and scale, categories with their levels, and the label.

All real parameters are integers in billionths. Each class refuses what could not be used; `to_plain`/`from_plain` are the manifest's form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Malformed
from hessian.learning.cells import positions
from hessian.learning.plain import BILLION, LARGEST_INTEGER, Fields, Plain, ShapeRefused

MOST_LEVELS = 1024
MOST_VALUES = 10_000  # raw values one level, or one side of the label, may name
OTHER = "other"  # the level of this name takes every cell that no level names

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
class Numeric:
    """One numeric column. All but the name in billionths. A cell outside [minimum, maximum] is refused, one outside the clips clipped."""

    name: str
    minimum: int
    maximum: int
    clip_low: int
    clip_high: int
    mean: int
    scale: int

    def __post_init__(self) -> None:
        if not self.minimum <= self.clip_low <= self.clip_high <= self.maximum:
            raise SpecificationRefused(f"column {self.name!r}: minimum ≤ clip_low ≤ clip_high ≤ maximum does not hold")
        if self.scale < 1:
            raise SpecificationRefused(f"column {self.name!r}: the scale must be positive")

    @property
    def entry_names(self) -> tuple[str, ...]:
        """One name per entry of φ(x)."""
        return (self.name,)

    @property
    def reaches(self) -> tuple[tuple[int, int], ...]:
        """Per entry (numerator, denominator): |entry| ≤ numerator / denominator."""
        return ((max(abs(self.clip_low - self.mean), abs(self.clip_high - self.mean)), self.scale),)


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
        return tuple((max(level.mean, BILLION - level.mean), level.scale) for level in self.levels)


Feature = Numeric | Category
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


def feature_to_plain(feature: Feature) -> dict[str, Plain]:
    """A map whose `kind` is "numeric" or "category"."""
    if isinstance(feature, Numeric):
        return {"kind": "numeric", **{name: getattr(feature, name) for name in ("name", *_NUMERIC_PARAMETERS)}}
    levels: list[Plain] = [
        {"name": level.name, "values": list(level.values), "mean": level.mean, "scale": level.scale} for level in feature.levels
    ]
    return {"kind": "category", "name": feature.name, "levels": levels}


def feature_from_plain(fields: Fields) -> Feature:
    """The inverse of `feature_to_plain`. Raises ShapeRefused, SpecificationRefused."""
    kind, name = fields.text("kind"), fields.text("name")
    feature: Feature
    if kind == "numeric":
        parameters = {parameter: fields.integer(parameter, -LARGEST_INTEGER, LARGEST_INTEGER) for parameter in _NUMERIC_PARAMETERS}
        feature = Numeric(name, **parameters)
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


def _level_from_plain(fields: Fields) -> Level:
    values = fields.texts("values", MOST_VALUES, may_be_empty=True)
    level = Level(fields.text("name"), values, fields.integer("mean", 0, BILLION), fields.integer("scale", 1, LARGEST_INTEGER))
    fields.done()
    return level
