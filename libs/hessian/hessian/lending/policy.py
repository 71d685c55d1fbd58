"""The rate policy a lender publishes: what turns a probability of default into a decision and a rate (PROTOCOL §10). Whole basis points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hessian.errors import Malformed
from hessian.learning.calibration import WHOLE_BPS
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.plain import Fields, Plain

LARGEST_RATE_BPS = 100_000
LONGEST_SECONDS = 366 * 86_400
LONGEST_REASON = 80
MOST_REASONS = 4


class PolicyRefused(Malformed):
    """The rate policy cannot be used as it stands."""


BOUNDS = {
    "cutoff_bps": (1, WHOLE_BPS - 1),
    "lgd_bps": (0, WHOLE_BPS),
    "funding_bps": (0, LARGEST_RATE_BPS),
    "margin_bps": (0, LARGEST_RATE_BPS),
    "cap_bps": (1, LARGEST_RATE_BPS),
    "tier_step_bps": (1, LARGEST_RATE_BPS),
    "quote_valid_seconds": (60, LONGEST_SECONDS),
    "quote_period_seconds": (60, LONGEST_SECONDS),
}
"""Least and most of every number of a policy, both allowed."""


@dataclass(frozen=True)
class RatePolicy:
    """Highest probability of default (`cutoff_bps`), loss given default, funding cost, margin, highest rate (`cap_bps`), a tier's width.

    A quote holds for `quote_valid_seconds`; an address gets one quote in `quote_period_seconds`. `reasons`: pairs (column, sentence) from
    which a decline in open mode is explained; none for a lender that gives no reasons.
    """

    cutoff_bps: int
    lgd_bps: int
    funding_bps: int
    margin_bps: int
    cap_bps: int
    tier_step_bps: int
    quote_valid_seconds: int
    quote_period_seconds: int
    reasons: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise PolicyRefused(f"the policy's {name} must lie between {least} and {most}")
        if len(self.reason_of) != len(self.reasons):
            raise PolicyRefused("the policy gives two reasons for one column")
        if any(not 1 <= len(reason) <= LONGEST_REASON for reason in self.reason_of.values()):
            raise PolicyRefused(f"a reason has between 1 and {LONGEST_REASON} characters")

    @cached_property
    def reason_of(self) -> Mapping[str, str]:
        """Column → reason."""
        return dict(self.reasons)

    def check_against(self, columns: Sequence[str]) -> None:
        """The reasons speak of these columns only. Raises PolicyRefused."""
        for column in self.reason_of:
            if column not in columns:
                raise PolicyRefused(f"the policy gives a reason for the column {column!r}, which the model does not read")

    def to_plain(self) -> dict[str, Plain]:
        """A map of integers and a list of reasons."""
        reasons: list[Plain] = [{"column": column, "reason": reason} for column, reason in self.reasons]
        return {**{name: getattr(self, name) for name in BOUNDS}, "reasons": reasons}

    @classmethod
    def from_plain(cls, value: object, place: str = "policy") -> RatePolicy:
        """The inverse of `to_plain`. Raises ShapeRefused, PolicyRefused."""
        fields = Fields.of(value, place)
        integers = {name: fields.integer(name, least, most) for name, (least, most) in BOUNDS.items()}
        reasons = tuple(_reason_from_plain(item) for item in fields.records("reasons", LARGEST_DIMENSION))
        fields.done()
        return cls(**integers, reasons=reasons)


def _reason_from_plain(fields: Fields) -> tuple[str, str]:
    reason = fields.text("column"), fields.text("reason", LONGEST_REASON)
    fields.done()
    return reason
