"""The feature specification: which columns of a CSV become which entries of φ(x), with what ranges, clips and scales.

The lender publishes it in the model manifest, fitted on its own validation rows only; every owner and every borrower turns raw cells into
the same integers with it. Real parameters are integers in billionths; entries of φ(x) are integers at 2^-feature_bits. An entry is

    intercept   1
    numeric     (clip(v, clip_low, clip_high) − mean) / scale      0 where the value is missing, if the column may lack values
    missing     ([the value is missing] − mean) / scale            a second entry of a column that lacks values often
    level       ([the cell belongs to the level] − mean) / scale   one entry per level of a category

`scale` is free (a diagonal preconditioner), so the bounds below are derived from the specification alone, never from rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hessian.identifiers import Digest
from hessian.learning.columns import (
    Columns,
    Feature,
    Indicator,
    Label,
    Numeric,
    Parsed,
    SpecificationRefused,
    column_of,
    feature_from_plain,
    feature_to_plain,
    label_from_plain,
    label_to_plain,
    parse_cells,
)
from hessian.learning.plain import BILLION, Fields, Plain

LARGEST_DIMENSION = 1024
LARGEST_QUANTISED_ENTRY = 2**26  # its square still lets float64 add up two rows exactly (statistics.py)
INTERCEPT = "intercept"

IntMatrix = NDArray[np.int64]
FloatMatrix = NDArray[np.float64]


def coarsened(entries: IntMatrix, dropped_bits: int) -> IntMatrix:
    """Integers at a scale `dropped_bits` coarser, to the nearest, halves up. Monotone: the ends of a range stay its ends."""
    if dropped_bits == 0:
        return entries
    return (entries + (1 << (dropped_bits - 1))) >> dropped_bits


@dataclass(frozen=True)
class FeatureSpecification:
    """Ordered features (the intercept comes first and is implied), the label, and the fixed point of φ(x)."""

    features: tuple[Feature, ...]
    label: Label
    feature_bits: int = 16

    def __post_init__(self) -> None:
        columns = [feature.name for feature in self.features]
        if not columns or len({*columns, self.label.column}) != len(columns) + 1:
            raise SpecificationRefused("features need different columns, none of them the label's")
        if self.dimension > LARGEST_DIMENSION:
            raise SpecificationRefused(f"{self.dimension} entries are more than the {LARGEST_DIMENSION} allowed")
        if len(set(self.names)) != self.dimension:
            raise SpecificationRefused("two entries would have the same name")
        if not 1 <= self.feature_bits <= 24:
            raise SpecificationRefused("feature_bits must lie between 1 and 24")
        for feature in self.features:
            if any(numerator << self.feature_bits > LARGEST_QUANTISED_ENTRY * denominator for numerator, denominator in feature.reaches):
                raise SpecificationRefused(
                    f"column {feature.name!r}: an entry could leave the fixed point, its scale is too small for its clips"
                )

    @property
    def dimension(self) -> int:
        """d: the intercept, one entry per numeric column, one more where a missing value has its own, one per level."""
        return 1 + sum(len(feature.entry_names) for feature in self.features)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The entries' names in order: "intercept", "int_rate", "term=term_36", …."""
        return (INTERCEPT, *(name for feature in self.features for name in feature.entry_names))

    @property
    def columns(self) -> tuple[str, ...]:
        """The CSV columns that are read, the label's last."""
        return (*(feature.name for feature in self.features), self.label.column)

    @cached_property
    def digest(self) -> Digest:
        """sha2-256 of the plain form as canonical JSON: the name of this specification (noise is drawn per specification, PROTOCOL §5)."""
        text = json.dumps(self.to_plain(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return Digest(hashlib.sha256(text.encode()).digest())

    # Bounds: in quantised units (2^-feature_bits), for every row there can be.

    @cached_property
    def largest_quantised_entries(self) -> tuple[int, ...]:
        """max |φ(x)_j| for every j."""
        parts = [np.array([[self._one]], dtype=np.int64), *(self._extremes(feature) for feature in self.features)]
        return tuple(int(bound) for part in parts for bound in np.abs(part).max(axis=0))

    @property
    def largest_quantised_entry(self) -> int:
        """max |φ(x)_j| over j."""
        return max(self.largest_quantised_entries)

    @cached_property
    def largest_quantised_norm(self) -> int:
        """max ‖φ(x)‖₁."""
        return self.largest_norm_at(self.feature_bits)

    def largest_norm_at(self, bits: int) -> int:
        """max ‖x‖₁ of rows rounded to 2^-bits (`coarsened`), bits ≤ feature_bits: of a category exactly one level holds."""
        dropped = self.feature_bits - bits
        ends = (coarsened(self._extremes(feature), dropped) for feature in self.features)
        return (1 << bits) + sum(int(np.abs(entries).sum(axis=1).max()) for entries in ends)

    @property
    def largest_entry(self) -> int:
        """max |φ(x)_j|, rounded up to an integer."""
        return -(-self.largest_quantised_entry // self._one)

    @property
    def largest_row_sum(self) -> int:
        """R of PROTOCOL §3, rounded up: the largest absolute row sum of φ(x)·φ(x)ᵀ, which is max |φ_j| · ‖φ‖₁."""
        return -(-self.largest_quantised_entry * self.largest_quantised_norm // self._one**2)

    # Rows

    def encode(self, parsed: Sequence[Parsed], entries: FloatMatrix) -> None:
        """Write φ of n rows into `entries`, n × d: integers at 2^-feature_bits, held exactly in float64.

        `parsed` has one array of n for each feature: a number's values within its legal range, NaN where missing; of a category the
        position of each row's level.
        """
        entries[:, 0] = self._one
        place = 1
        for feature, values in zip(self.features, parsed, strict=True):
            if isinstance(feature, Numeric):
                own = entries[:, place : place + len(feature.entry_names)]
                self._encode_number(feature, values.astype(np.float64, copy=False), own)
            else:
                table = self._extremes(feature).astype(np.float64)
                for entry in range(table.shape[1]):
                    np.take(table[:, entry], values.astype(np.intp, copy=False), out=entries[:, place + entry])
            place += len(feature.entry_names)

    def design(self, columns: Columns, *, first_row: int = 1) -> IntMatrix:
        """φ of every row, n × d at 2^-feature_bits; the label is not needed. Raises CellRefused, ColumnMissing."""
        parsed = [parse_cells(feature, column_of(columns, feature.name), first_row=first_row) for feature in self.features]
        entries = np.empty((len(parsed[0]), self.dimension), order="F")
        self.encode(parsed, entries)
        return entries.astype(np.int64, order="C")

    def matrix(self, columns: Columns, *, first_row: int = 1) -> tuple[IntMatrix, IntMatrix]:
        """(X, y) of a batch of columns of raw cells: X n × d at 2^-feature_bits, y n of {0, 1}. `first_row` numbers the batch's first row.

        Raises CellRefused (row and column named), ColumnMissing.
        """
        return self.design(columns, first_row=first_row), self.label.read(columns, first_row=first_row)

    @property
    def _one(self) -> int:
        return 1 << self.feature_bits

    def _quantise(self, values: NDArray[np.float64], mean: int, scale: int) -> NDArray[np.float64]:
        """In place, by operations that IEEE 754 rounds correctly: every machine computes the same integers, and the map stays monotone.

        Dividing the scale by 2^feature_bits is exact, so it gives what multiplying the quotient by it would, with one pass fewer.
        """
        np.subtract(values, mean / BILLION, out=values)
        np.divide(values, scale / BILLION / self._one, out=values)
        return np.rint(values, out=values)

    def _encode_number(self, feature: Numeric, values: NDArray[np.float64], entries: FloatMatrix) -> None:
        own = entries[:, 0]
        np.clip(values, feature.clip_low / BILLION, feature.clip_high / BILLION, out=own)
        self._quantise(own, feature.mean, feature.scale)
        if feature.missing_values:
            missing = np.isnan(own)
            own[missing] = 0
            if feature.indicator:
                np.take(self._indicator(feature.indicator), missing.astype(np.intp), out=entries[:, 1])

    def _indicator(self, indicator: Indicator) -> NDArray[np.float64]:
        """The entry where it does not hold, and where it does."""
        return self._quantise(np.array([0.0, 1.0]), indicator.mean, indicator.scale)

    def _extremes(self, feature: Feature) -> IntMatrix:
        """The entries of a feature at the ends of its range: a number's clips and then "missing", or one row per level."""
        if isinstance(feature, Numeric):
            values = np.array([feature.clip_low / BILLION, feature.clip_high / BILLION, *([math.nan] if feature.missing_values else [])])
            entries = np.empty((len(values), len(feature.entry_names)))
            self._encode_number(feature, values, entries)
            return entries.astype(np.int64)
        indicators = [self._indicator(level.indicator).astype(np.int64) for level in feature.levels]
        return np.stack([np.where(np.arange(len(indicators)) == j, each[1], each[0]) for j, each in enumerate(indicators)], axis=1)

    # Plain form (the manifest's and the REST interface's)

    def to_plain(self) -> dict[str, Plain]:
        """Integers, text, lists and maps only; real parameters in billionths."""
        return {
            "features": [feature_to_plain(feature) for feature in self.features],
            "label": label_to_plain(self.label),
            "feature_bits": self.feature_bits,
        }

    @classmethod
    def from_plain(cls, value: object, place: str = "specification") -> FeatureSpecification:
        """The inverse of `to_plain`. Raises ShapeRefused, SpecificationRefused."""
        fields = Fields.of(value, place)
        features = tuple(feature_from_plain(item) for item in fields.records("features", LARGEST_DIMENSION))
        label = label_from_plain(fields.record("label"))
        specification = cls(features, label, fields.integer("feature_bits", 1, 24))
        fields.done()
        return specification
