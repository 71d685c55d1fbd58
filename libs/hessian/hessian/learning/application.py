"""A borrower's features, named as in the manifest: checked field by field, in one canonical form, encoded exactly as in training.

The canonical form is a text per column: a number as its shortest decimal without its unit, a missing one (null, or a raw cell that says so)
as the first raw cell that means it, a category's raw value as given. One application has one form, so
that commitments to it and counts of it mean what they say. A refusal names fields and never repeats a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hessian.errors import Malformed
from hessian.learning.columns import Category, Feature, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.plain import ShapeRefused, billionths, decimal, text_of
from hessian.learning.scoring import ScoringScale

_LONGEST_VALUE = 200
_MOST_NAMED = 12

Features = Mapping[str, str]
"""Column → canonical text, one for every column of the specification but the label's."""


class ApplicationRefused(Malformed):
    """The features are not what the model reads. `problems`: field → what to change."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{field[:80]}: {problem}" for field, problem in self.problems.items()))


def read_features(specification: FeatureSpecification, values: Mapping[str, object]) -> dict[str, str]:
    """The canonical form of what a borrower sent: text or JSON numbers by column. Raises ApplicationRefused with every problem at once."""
    features, problems = dict[str, str](), dict[str, str]()
    for feature in specification.features:
        if feature.name not in values:
            problems[feature.name] = "is missing"
            continue
        try:
            features[feature.name] = _canonical(feature, values[feature.name])
        except Malformed as error:
            problems[feature.name] = error.sentence
    known = {feature.name for feature in specification.features}
    problems |= {str(name): "is not a field of this model" for name in values if name not in known}
    if problems:
        raise ApplicationRefused(problems)
    return features


def check_canonical(specification: FeatureSpecification, features: Features) -> None:
    """The features are in canonical form already: what a commitment to them was made of. Raises ApplicationRefused."""
    canonical = read_features(specification, features)
    problems = {name: "is not in canonical form" for name, text in canonical.items() if features[name] != text}
    if problems:
        raise ApplicationRefused(problems)


def encode_features(scale: ScoringScale, specification: FeatureSpecification, features: Features) -> list[int]:
    """φ(x) of canonical features, encoded as in training and rounded to the scoring scale: d integers at 2^-scale.feature_bits."""
    design = specification.design({name: [text] for name, text in features.items()})
    return list(map(int, scale.features(specification, design)[0]))


def _canonical(feature: Feature, value: object) -> str:
    if isinstance(feature, Numeric):
        if feature.missing_values and (value is None or value in feature.missing_values):
            return feature.missing_values[0]
        return _canonical_number(feature, _as_text(value).removesuffix(feature.unit))
    return _canonical_level(feature, _as_text(value))


def _canonical_number(feature: Numeric, text: str) -> str:
    try:
        number = billionths(text)
    except ShapeRefused as error:
        raise ShapeRefused("must be a decimal number such as 1250.5, with at most 9 digits after the point and no exponent") from error
    if not feature.minimum <= number <= feature.maximum:
        raise ShapeRefused(f"must lie between {decimal(feature.minimum)} and {decimal(feature.maximum)}")
    return decimal(number)


def _canonical_level(feature: Category, text: str) -> str:
    if text not in feature.level_of and feature.other is None:
        known = list(feature.level_of)
        named = ", ".join(repr(value[:40]) for value in known[:_MOST_NAMED])
        raise ShapeRefused(f"must be one of {named}" + (f" or {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""))
    return text


def _as_text(value: object) -> str:
    """Text as it is, a JSON number in plain decimal notation."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ShapeRefused("must be text or a number")
    if isinstance(value, int):
        if abs(value) >= 10**_LONGEST_VALUE:
            raise ShapeRefused("is out of range")
        value = str(value)
    if isinstance(value, float):
        value = format(Decimal(repr(value)), "f")
    return text_of(value, "it", _LONGEST_VALUE, may_be_empty=True)
