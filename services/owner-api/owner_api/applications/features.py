"""A borrower's features at the API's edge, and their fingerprints: what tells whether the same borrower was already asked about.

Answers name every wrong field; sentences, which are logged, hold only names that the manifest knows. No value is ever repeated.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from hessian.learning.application import ApplicationRefused, read_features
from hessian.learning.columns import Feature, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.service.problems import FieldsRefused

_FINGERPRINT_BYTES = 16
_MISSING = b"missing"
_LONGEST_SHOWN = 80


class FeaturesRefused(FieldsRefused):
    """The features are not what the model reads; `errors` says which fields are wrong and why."""


def canonical_features(specification: FeatureSpecification, given: Mapping[str, object]) -> dict[str, str]:
    """The canonical form of what a borrower sent. Raises FeaturesRefused naming every field that is wrong."""
    try:
        return read_features(specification, given)
    except ApplicationRefused as refusal:
        raise _refusal(refusal.problems, {feature.name for feature in specification.features}) from None


def fingerprints(key: bytes, specification: FeatureSpecification, features: Mapping[str, str]) -> bytes:
    """A keyed hash of each value of canonical features, without its name and sorted: a feature that was renamed or moved is still the same
    value, and a number that is missing is the same however a model spells that."""
    return b"".join(sorted(_fingerprint(key, feature, features[feature.name]) for feature in specification.features))


def is_same_set(first: bytes, second: bytes) -> bool:
    """Whether at least half of the larger set's values are among the other's.

    A few features more, less or changed do not make another borrower; a value that two sets share by chance does not make one.
    """
    one, other = _split(first), _split(second)
    shared = (one & other).total()
    return shared > 0 and 2 * shared >= max(one.total(), other.total())


def _fingerprint(key: bytes, feature: Feature, value: str) -> bytes:
    if isinstance(feature, Numeric) and value in feature.missing_values:
        return hashlib.blake2b(key=key, digest_size=_FINGERPRINT_BYTES, person=_MISSING).digest()
    return hashlib.blake2b(value.encode(), key=key, digest_size=_FINGERPRINT_BYTES).digest()


def _split(joined: bytes) -> Counter[bytes]:
    return Counter(joined[start : start + _FINGERPRINT_BYTES] for start in range(0, len(joined), _FINGERPRINT_BYTES))


def _refusal(problems: Mapping[str, str], known: set[str]) -> FeaturesRefused:
    wrong = {name: problem for name, problem in problems.items() if name in known}
    unknown = {name: problem for name, problem in problems.items() if name not in known}
    # an unknown name is the caller's own word and may hold anything: at most shown to the caller, never logged
    shown = {name: problem for name, problem in unknown.items() if name.isprintable() and len(name) <= _LONGEST_SHOWN}
    places = {f"features.{name}": problem for name, problem in (wrong | shown).items()}
    if len(shown) < len(unknown):
        places["features"] = f"{len(unknown) - len(shown)} unknown fields have names that cannot be shown"
    sentences = [f"{name} {problem}" for name, problem in wrong.items()]
    if unknown:
        sentences.append("1 field is unknown" if len(unknown) == 1 else f"{len(unknown)} fields are unknown")
    return FeaturesRefused("these features are not what the model reads: " + "; ".join(sentences), places)
