"""From a table nobody described to an outline of features, with a reason for every column: a proposal, to be looked at and edited.

Everything is decided on the lender's validation rows alone. What cannot be known from them (which columns are lawful to use, or known only
after a loan was granted) stays with the person who reads the reasons; for Lending Club's own columns it is known here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hessian.errors import Malformed
from hessian.learning import lending_club
from hessian.learning.cells import NUMBER
from hessian.learning.columns import MISSING, OTHER, Columns, Label, column_of
from hessian.learning.decisions import LONGEST_REASON, MOST_DECISIONS, Decision, Use
from hessian.learning.fitting import CategoryOutline, NumericOutline
from hessian.learning.metrics import auc
from hessian.learning.plain import BILLION, LARGEST_INTEGER, billionths, decimal

MOST_ENTRIES = 100
ROWS_PER_ENTRY = 10
MOST_LEVELS = 30
LEAST_LEVEL_PERCENT = 1
MISSING_VALUES = ("", "NA", "N/A", "n/a", "na", "NULL", "null", "None", "none", "NaN", "nan", "?", ".", "-")
UNITS = ("%", "€", "$", "£")
_OFTEN_MISSING = 0.005  # share of the rows from which on a missing value has an entry of its own
_OWN_VALUE_EACH = 0.95  # share of the rows with different values from which on a text names rows
_TELLS_ALL = 0.99  # AUC of one column alone from which on it is the label in other words
_QUANTILES = (0.005, 0.995)
_LONGEST_VALUE = _LONGEST_NAME = 200
_DECIMALS = 6
_NUMBER = re.compile(NUMBER, re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d?(-\d\d?.*)?|\d\d?[/.]\d\d?[/.]\d{2,4}.*|[A-Z][a-z]{2}-\d{2,4}|\d\d?-[A-Z][a-z]{2}(-\d{2,4})?", re.ASCII)
_NAMES_ROWS = re.compile(r"(?:.*[_\s.-])?(?:id|ids|uuid|guid|key|index|idx|row|rownames|rownumber|nr|no)|unnamed.*", re.IGNORECASE)

FeatureOutline = NumericOutline | CategoryOutline


class NothingToLearn(Malformed):
    """No column of this table can be used as it stands."""


@dataclass(frozen=True)
class Proposal:
    """Features in the table's order, and one decision for each column but the label."""

    features: tuple[FeatureOutline, ...]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class _Candidate:
    """A feature that could be taken: the entries it costs, and how much it alone tells of the label."""

    outline: FeatureOutline
    entries: int
    tells: float
    reason: str


def propose(columns: Columns, label: Label, *, most_entries: int = MOST_ENTRIES) -> Proposal:
    """An outline for these rows (raw cells by column), within `most_entries` and one entry per ROWS_PER_ENTRY rows.

    Raises ColumnMissing, CellRefused for the label; NothingToLearn with every column's reason.
    """
    labels = label.read(columns)
    known = lending_club.is_lending_club(columns)
    found: dict[str, _Candidate | str] = {}
    seen: dict[tuple[str, ...], str] = {}
    for name in columns:
        if name != label.column:
            found[name] = _judge(name, column_of(columns, name), labels, seen, known=known)
    room = min(most_entries, len(labels) // ROWS_PER_ENTRY) - 1
    _keep_within(found, room)
    decisions = tuple(_decision(name, each) for name, each in found.items())[:MOST_DECISIONS]
    features = tuple(each.outline for each in found.values() if isinstance(each, _Candidate))
    if not features:
        why = "; ".join(f"{each.column!r}: {each.reason}" for each in decisions[:5])
        raise NothingToLearn(f"no column can be used: {why}" if why else "the table has no column besides the label")
    return Proposal(features, decisions)


def _judge(
    name: str, cells: Sequence[str], labels: NDArray[np.int64], seen: dict[tuple[str, ...], str], *, known: bool
) -> _Candidate | str:
    """What the column can be, or why it is left out."""
    if known and (reason := lending_club.left_out(name)):
        return reason
    counts = Counter(cells)
    if len(counts) == 1:
        return "every row has the same value"
    if len(name) > _LONGEST_NAME or not name.isprintable():
        return "its name is too long or holds control characters"
    if max(map(len, counts)) > _LONGEST_VALUE:
        return "free text: its cells are too long to be a category"
    if (twin := seen.setdefault(tuple(cells), name)) != name:
        return f"the same as column {twin!r}"[:LONGEST_REASON]
    if known and name in lending_club.LEVELS:
        return _told_apart(_category(name, cells, labels, lending_club.LEVELS[name], "a column of Lending Club's"))
    missing = [value for value in MISSING_VALUES if value in counts]
    unit = lending_club.UNITS.get(name, "") if known else _unit(counts, missing)
    values = _numbers(cells, frozenset(missing), unit)
    if values is None:
        return _told_apart(_text(name, cells, counts, missing, labels))
    return _told_apart(_number(name, values, missing, unit, labels, lending_club.RANGES.get(name) if known else None))


def _told_apart(candidate: _Candidate | str) -> _Candidate | str:
    """Too good to be known beforehand is left out."""
    if isinstance(candidate, _Candidate) and candidate.tells >= _TELLS_ALL:
        return f"it alone tells the label (AUC {candidate.tells:.3f}): probably known only afterwards"
    return candidate


def _unit(counts: Mapping[str, int], missing: Sequence[str]) -> str:
    """What stands behind every number, if it is one of the usual units."""
    present = [value for value in counts if value not in missing]
    return next((unit for unit in UNITS if present and all(value.endswith(unit) for value in present)), "")


def _numbers(cells: Sequence[str], missing: frozenset[str], unit: str) -> NDArray[np.float64] | None:
    """Values, NaN where missing; None when a cell is no number, or none is left."""
    present = {cell: cell.removesuffix(unit) for cell in set(cells) - missing}
    if not present or any(_NUMBER.fullmatch(text) is None for text in present.values()):
        return None
    values = {cell: float(text) for cell, text in present.items()}
    if any(abs(value) >= LARGEST_INTEGER / BILLION for value in values.values()):
        return None
    return np.array([values.get(cell, np.nan) for cell in cells])


def _number(
    name: str, values: NDArray[np.float64], missing: Sequence[str], unit: str, labels: NDArray[np.int64], legal: tuple[str, str] | None
) -> _Candidate | str:
    present = values[~np.isnan(values)]
    if present.min() == present.max():
        return "every row that has a value has the same one"
    whole = bool((present == np.rint(present)).all())
    differ = whole and len(present) > ROWS_PER_ENTRY and len(np.unique(present)) == len(present)
    if differ and (_NAMES_ROWS.fullmatch(name) or present.max() - present.min() == len(present) - 1):
        return "names rows: a number of its own in each"
    low, high = (billionths(end) for end in legal) if legal else (-LARGEST_INTEGER, LARGEST_INTEGER)
    if not (low / BILLION <= present.min() and present.max() <= high / BILLION):
        low, high = -LARGEST_INTEGER, LARGEST_INTEGER
    clips = [_rounded(float(each)) for each in np.quantile(present, _QUANTILES)]
    if clips[0] == clips[1]:
        clips = [_rounded(float(present.min())), _rounded(float(present.max()))]
    share = 1 - len(present) / len(values)
    often = share >= _OFTEN_MISSING
    outline = NumericOutline(
        name, low, high, (max(low, clips[0]), min(high, clips[1])), ("", *(each for each in missing if each)), often, unit
    )
    tells = auc(np.where(np.isnan(values), np.median(present), values), labels)
    reason = f"numbers, clipped to {decimal(clips[0])} … {decimal(clips[1])}"
    if share:
        reason += f"; {100 * share:.1f} % missing, " + ("with an entry of their own" if often else "taken as the mean")
    return _Candidate(outline, 1 + often, max(tells, 1 - tells), reason + _in_range(legal, low))


def _in_range(legal: tuple[str, str] | None, low: int) -> str:
    return f"; a cell outside {legal[0]} … {legal[1]} is refused" if legal and low != -LARGEST_INTEGER else ""


def _text(name: str, cells: Sequence[str], counts: Counter[str], missing: Sequence[str], labels: NDArray[np.int64]) -> _Candidate | str:
    present = {value: count for value, count in counts.items() if value not in missing}
    rows = sum(present.values())
    if not present:
        return "every row lacks a value"
    if len(present) > ROWS_PER_ENTRY and len(present) >= _OWN_VALUE_EACH * rows:
        return "names rows: a value of its own in almost each"
    if sum(count for value, count in present.items() if _DATE.fullmatch(value.strip())) >= _OWN_VALUE_EACH * rows:
        return _DATE_REASON
    frequent = [value for value, count in counts.most_common() if 100 * count >= LEAST_LEVEL_PERCENT * len(cells) and value in present]
    frequent = [value for value in frequent if value.isprintable() and value not in (OTHER, MISSING)]
    if not frequent or (len(frequent) == 1 and len(present) == 1 and not missing):
        return "no value is frequent enough to learn from"
    if sum(_NUMBER.fullmatch(value.strip()) is not None for value in present) > len(present) / 2 and len(present) > MOST_LEVELS:
        return "numbers with text among them: clean it, or leave it out"
    levels: list[tuple[str, tuple[str, ...]]] = [(value, (value,)) for value in frequent[:MOST_LEVELS]]
    if missing:
        levels.append((MISSING, tuple(missing)))
    rare = len(present) - min(len(frequent), MOST_LEVELS)
    return _category(name, cells, labels, tuple(levels), f"text, {rare} rare values joined as {OTHER!r}" if rare else "text")


_DATE_REASON = "a date: it would have to be turned into an age first"


def _category(name: str, cells: Sequence[str], labels: NDArray[np.int64], levels: lending_club.Levels, reason: str) -> _Candidate | str:
    """`levels` and one more for every cell they do not name."""
    level_of = {value: place for place, (_, values) in enumerate(levels) for value in values}
    places = np.array([level_of.get(cell, len(levels)) for cell in cells])
    if len(np.unique(places)) == 1:
        return "every row belongs to the same level"
    positives = np.bincount(places, weights=labels, minlength=len(levels) + 1)
    rates = positives / np.maximum(1, np.bincount(places, minlength=len(levels) + 1))
    outline = CategoryOutline(name, (*levels, (OTHER, ())))
    return _Candidate(outline, len(levels) + 1, auc(rates[places], labels), f"{len(levels)} levels: {reason}")


def _keep_within(found: dict[str, _Candidate | str], room: int) -> None:
    """The columns that tell most stay; the others would be more than the rows can carry."""
    candidates = [(name, each) for name, each in found.items() if isinstance(each, _Candidate)]
    for name, each in sorted(candidates, key=lambda pair: -pair[1].tells):
        room -= each.entries
        if room < 0:
            found[name] = f"its {each.entries} entries would be more than the validation rows carry, and it tells less than others"
            room += each.entries


def _decision(name: str, found: _Candidate | str) -> Decision:
    name = "".join(sign if sign.isprintable() else "?" for sign in name[:_LONGEST_NAME])
    if isinstance(found, str):
        return Decision(name, Use.LEFT_OUT, found[:LONGEST_REASON])
    use = Use.NUMERIC if isinstance(found.outline, NumericOutline) else Use.CATEGORY
    return Decision(name, use, found.reason[:LONGEST_REASON])


def _rounded(value: float) -> int:
    """In billionths, as few digits as a person would write."""
    return round(round(value, _DECIMALS) * BILLION)
