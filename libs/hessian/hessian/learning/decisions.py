"""What was decided about each column of a table when a model was prepared, and why: public, in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hessian.learning.plain import Fields, Plain, ShapeRefused

MOST_DECISIONS = 2_000
LONGEST_REASON = 200


class Use(StrEnum):
    """What became of a column."""

    NUMERIC = "numeric"
    CATEGORY = "category"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Decision:
    """One column's. The reason is a sentence for people; no node acts on it."""

    column: str
    use: Use
    reason: str


def decisions_to_plain(decisions: Sequence[Decision]) -> list[Plain]:
    """A list of maps."""
    return [{"column": each.column, "use": each.use.value, "reason": each.reason} for each in decisions]


def decisions_from_plain(items: Sequence[Fields]) -> tuple[Decision, ...]:
    """The inverse of `decisions_to_plain`. Raises ShapeRefused."""
    return tuple(map(_decision, items))


def _decision(fields: Fields) -> Decision:
    use = fields.text("use", 40)
    if use not in list(Use):
        raise ShapeRefused(f"{fields.place}.use must be one of {', '.join(Use)}")
    decision = Decision(fields.text("column"), Use(use), fields.text("reason", LONGEST_REASON))
    fields.done()
    return decision
