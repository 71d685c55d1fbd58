"""Arrow columns into what a feature specification encodes: whole columns at once, and only where nothing about them needs a second look.

Every function here either gives exactly what the strict readers of `cells` would give, or None: then the same rows are read strictly, which
takes them or names the row and the column at fault. So these readers may be fast and cannot be lenient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hessian.learning.cells import NUMBER, CellRefused, numbers
from hessian.learning.columns import Category, Feature, Numeric, Parsed
from hessian.learning.features import FeatureSpecification, FloatMatrix
from hessian.learning.plain import BILLION
from hessian.learning.rows import RowsRefused

Arrays = Mapping[str, pa.Array]
"""The wanted columns of consecutive rows."""

_WHOLE_NUMBER = rf"\A(?:{NUMBER})\z"
_LARGEST_EXACT = 2.0**53


def encode(specification: FeatureSpecification, arrays: Arrays, entries: FloatMatrix, nulls: Collection[str]) -> FloatMatrix | None:
    """φ(x) and 2y − 1 of every row, written into `entries`, n × (d + 1). `nulls` are the raw cells that a null here may stand for."""
    parsed = []
    for feature in specification.features:
        column = read_feature(feature, arrays[feature.name], nulls)
        if column is None:
            return None
        parsed.append(column)
    label = specification.label
    known = {**dict.fromkeys(label.negative, -1), **dict.fromkeys(label.positive, 1)}
    labels = read_positions(arrays[label.column], known, None)
    if labels is None:
        return None
    specification.encode(parsed, entries[:, :-1])
    entries[:, -1] = labels
    return entries


def read_feature(feature: Feature, array: pa.Array, nulls: Collection[str]) -> Parsed | None:
    """A number's values, NaN where missing, or the positions of a category's levels."""
    if isinstance(feature, Category):
        return read_positions(array, feature.level_of, feature.other)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return _numbers_in_text(feature, array.fill_null(""))
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        return None
    if array.null_count and not set(nulls) <= set(feature.missing_values):
        return None
    return _in_range(feature, array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), array.null_count)


def read_positions(array: pa.Array, known: Mapping[str, int], otherwise: int | None) -> NDArray[np.int64] | None:
    """What `known` says of each cell's text, or `otherwise`."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    found = [known.get(text, otherwise) for text in (*texts(encoded.dictionary), *([""] if encoded.null_count else []))]
    table = [position for position in found if position is not None]
    if len(table) != len(found):
        return None
    places = encoded.indices.fill_null(len(table) - 1) if encoded.null_count else encoded.indices
    return np.take(np.array(table, dtype=np.int64), np.asarray(places.to_numpy(zero_copy_only=False)))


def texts(array: pa.Array) -> list[str]:
    """Every cell as a CSV's text: numbers in decimal, moments in UTC, a null as an empty cell. Raises RowsRefused for nested columns."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return texts(array.dictionary_decode())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        raise RowsRefused(f"a column holds {kind}, neither numbers nor text")
    if pa.types.is_timestamp(kind) and kind.tz is not None:  # in UTC: Python would look for the zone's file, and a job opens none
        return [text and f"{text}+00:00" for text in texts(array.view(pa.timestamp(kind.unit)))]
    return ["" if value is None else _text(value) for value in array.to_pylist()]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_EXACT else repr(value)
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _numbers_in_text(feature: Numeric, array: pa.Array) -> NDArray[np.float64] | None:
    if feature.unit:  # every different cell once, by the strict reader itself
        encoded = array.dictionary_encode()
        low, high = feature.minimum / BILLION, feature.maximum / BILLION
        try:
            values = numbers(encoded.dictionary.to_pylist(), feature.name, low, high, missing=feature.missing_values, unit=feature.unit)
        except CellRefused:
            return None
        return np.take(values, np.asarray(encoded.indices.to_numpy(zero_copy_only=False)))
    if feature.missing_values:
        array = pc.if_else(pc.is_in(array, pa.array(list(feature.missing_values), array.type)), None, array)
    if pc.all(pc.match_substring_regex(array, _WHOLE_NUMBER)).as_py() is False:
        return None
    try:
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return _in_range(feature, values, array.null_count)


def _in_range(feature: Numeric, values: NDArray[np.float64], nulls: int) -> NDArray[np.float64] | None:
    """The values, if all lie in the legal range and only nulls are NaN."""
    if nulls:
        present = values[~np.isnan(values)]
        if len(present) != len(values) - nulls:
            return None
    else:
        present = values
    if not len(present):
        return values
    lowest, highest = float(present.min()), float(present.max())  # NaN, where one is left, fails the comparison
    return values if feature.minimum / BILLION <= lowest and highest <= feature.maximum / BILLION else None
