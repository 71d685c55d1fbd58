"""An enrolment's secrets: its statistics and the private half of its masking key, sealed with a purpose and a place of their own."""

from __future__ import annotations

import json

from hessian.cohorts.masks import MaskingKeyPair
from hessian.errors import KeyLost
from hessian.learning.statistics import SufficientStatistics
from hessian.postgres.vault import Vault
from owner_api.tables import Enrollment

_STATISTICS = "statistics"
_MASKING_KEY = "masking key"


class SecretErased(KeyLost):
    """A secret of this enrolment was erased when it ended, and is needed after all."""


def keep_statistics(vault: Vault, enrollment: Enrollment, statistics: SufficientStatistics) -> None:
    """Seal the statistics into the enrolment."""
    enrollment.sealed_statistics = vault.seal(_STATISTICS, str(enrollment.id), json.dumps(statistics.to_plain()).encode())


def statistics_of(vault: Vault, enrollment: Enrollment) -> SufficientStatistics:
    """The statistics. Raises SecretErased, KeyLost."""
    if enrollment.sealed_statistics is None:
        raise SecretErased
    return SufficientStatistics.from_plain(json.loads(vault.open(_STATISTICS, str(enrollment.id), enrollment.sealed_statistics)))


def keep_masking_key(vault: Vault, enrollment: Enrollment, pair: MaskingKeyPair) -> None:
    """Seal a fresh pair's private half; it belongs to the join that is being tried."""
    enrollment.masking_key = pair.public
    enrollment.sealed_masking_secret = vault.seal(_MASKING_KEY, _join(enrollment), pair.private)


def masking_secret(vault: Vault, enrollment: Enrollment) -> bytes:
    """The private masking key. Raises SecretErased, KeyLost."""
    if enrollment.sealed_masking_secret is None:
        raise SecretErased
    return vault.open(_MASKING_KEY, _join(enrollment), enrollment.sealed_masking_secret)


def _join(enrollment: Enrollment) -> str:
    return f"{enrollment.id}:{enrollment.joins}"
