"""The demo on a table of your own: `make demo DATA=file LABEL=column POSITIVE=value [OWNERS=n]`.

The file is cut by SEED: 70 % of the rows go to owners of unequal size; of the others the lender keeps one half to validate, and one half
stays unseen until the report. What the columns mean is decided by lender-api's own proposal, on the validation rows alone; so is the
target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from devstack.demo.case import Case, Plan, Shards, Table, ordered, rows_of
from devstack.demo.parties import Lender
from devstack.demo.target import derived
from hessian.cohorts.policy import OwnerPolicy
from hessian.errors import Malformed
from hessian.learning import lending_club
from hessian.learning.columns import ColumnMissing, Label
from hessian.learning.decisions import Use
from hessian.learning.fitting import Outline
from hessian.learning.formats import format_of
from hessian.learning.tables import chunks_of_file, read_table
from hessian.uploads import as_csv
from lender_api.models.outlines import ProposalRead

SEED = 2017
MAX_ROUNDS = 12
LOCAL_STEPS = 100  # docs/data.md: least squares' AUC in one round or two, where one step a round takes ten
MOST_OWNERS = 32
LEAST_ROWS, LEAST_OF_EACH = 400, 40
MOST_ROWS = 500_000
_TRAIN, _VALIDATION = 0.70, 0.15
_LARGEST_FILE = 1 << 30
_POLICY = OwnerPolicy()


class TableRefused(Malformed):
    """The demo cannot run on this table."""


def case_of(file: Path, label: str, positive: str, owners: int) -> Case:
    """Read and cut the file: whatever is wrong with it is said before anything is started. Raises Malformed."""
    if not _POLICY.minimum_members <= owners <= MOST_OWNERS:
        raise TableRefused(
            f"OWNERS must lie between {_POLICY.minimum_members}, below which owners' nodes refuse to join, and {MOST_OWNERS}"
        )
    shards = split(_final_only(load(file, label), label), label, positive, owners)
    rows = sum(len(shard[label]) for shard in (*shards.owners, shards.validation, shards.test))
    return Case(
        name=file.stem[:100],
        cutting=f"cutting {rows} rows of {file.name}: {owners} owners, the lender's validation rows, a final test set",
        label=label,
        positive=positive,
        owners=owners,
        max_rounds=MAX_ROUNDS,
        load=lambda: shards,
        plan=partial(_plan, label=label, positive=positive),
        standard_errors=2,
    )


def load(file: Path, label: str) -> Table:
    """Every row as raw cells. Raises TableRefused, RowsRefused, UploadUnreadable, ColumnMissing."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise TableRefused(f"{file} is larger than {_LARGEST_FILE >> 30} GiB: the demo is for smaller files")
        with file.open("rb") as opened:
            return _table(opened, label)
    except OSError as error:
        raise TableRefused(f"{file} cannot be read: {error.strerror}") from error


def _table(file: BinaryIO, label: str) -> Table:
    table: Table = {}
    for batch in read_table(as_csv(_checked(chunks_of_file(file)))):
        for name, cells in batch.columns.items():
            table.setdefault(name, []).extend(cells)
        if label not in table:
            names = ", ".join(list(table)[:12])
            raise ColumnMissing(f"there is no column {label!r}; the file has {names}{', …' if len(table) > 12 else ''}")
        if len(table[label]) > MOST_ROWS:
            raise TableRefused(f"the file has more than {MOST_ROWS} rows: the demo is for smaller ones")
    return table


def _checked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, after a look at what file they begin. Raises RowsRefused."""
    first = next(chunks, b"")
    format_of(first)
    yield first
    yield from chunks


def _final_only(table: Table, label: str) -> Table:
    """Of Lending Club's own files only loans that have ended: the others are neither good nor bad yet."""
    if label != lending_club.STATUS or not lending_club.is_lending_club(table):
        return table
    return rows_of(table, [row for row, status in enumerate(table[label]) if status in lending_club.FINAL])


def split(table: Table, label: str, positive: str, owners: int, seed: int = SEED) -> Shards:
    """Cut the rows, the label's share equal in all parts. Raises TableRefused for a label that cannot be learned, or too few rows."""
    values = Counter(table[label])
    if positive not in values:
        raise TableRefused(f"no row of column {label!r} has the value {positive!r}; it holds {_some(values)}")
    if "" in values:
        raise TableRefused(f"{values['']} rows of the label column {label!r} are empty: leave those rows out")
    if len(values) != 2:
        raise TableRefused(f"the label column {label!r} needs two values, it holds {_some(values)}")
    if len(table[label]) < LEAST_ROWS or min(values.values()) < LEAST_OF_EACH:
        raise TableRefused(f"the table has too few rows: it needs {LEAST_ROWS}, and {LEAST_OF_EACH} of each label; it has {_some(values)}")
    order = ordered(table[label], seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for value in sorted(values):
        rows = [row for row in order if table[label][row] == value]
        first, second = round(len(rows) * _TRAIN), round(len(rows) * (_TRAIN + _VALIDATION))
        for part, share in zip(parts, (rows[:first], rows[first:second], rows[second:]), strict=True):
            part += share
    place = {row: number for number, row in enumerate(order)}
    train = sorted(parts[0], key=place.__getitem__)
    ends = [len(train) * end // _shares_sum(owners) for end in _ends(owners)]
    shards = tuple(rows_of(table, train[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    if any(len(set(shard[label])) < 2 for shard in shards):
        raise TableRefused(f"the rows of one label are too few for {owners} owners: each needs both")
    return Shards(shards, rows_of(table, parts[1]), rows_of(table, parts[2]))


def _plan(lender: Lender, validation_set: str, shards: Shards, *, label: str, positive: str) -> Plan:
    """What lender-api proposes, and a target that its validation rows make likely. Raises RequestRefused, TableRefused."""
    rows = sum(len(shard[label]) for shard in shards.owners)
    most = max(2, min(100, rows // _POLICY.rows_per_feature))
    answer = lender.get(f"/v1/validation-sets/{validation_set}/outline", most_entries=most)
    proposal = ProposalRead.model_validate(answer)
    (negative,) = set(shards.validation[label]) - {positive}
    outline = Outline(tuple(feature.to_outline() for feature in proposal.features), Label(label, (positive,), (negative,)))
    wish = {"features": answer["features"], "preparation": answer["preparation"], "objective": {"local_steps": LOCAL_STEPS}}
    target = derived(outline, shards.validation)
    if target is None:
        raise TableRefused("the columns tell nothing of the label that would hold on other rows: there is no target to train for")
    return Plan(wish, target)


def told(plan: Plan) -> list[str]:
    """The proposal in lines for people: every column, what becomes of it, and why."""
    decisions = plan.wish.get("preparation", [])
    width = max((len(each["column"]) for each in decisions), default=0)
    marks = {Use.NUMERIC.value: "number  ", Use.CATEGORY.value: "category", Use.LEFT_OUT.value: "left out"}
    return [f"{each['column']:{min(width, 40)}}  {marks[each['use']]}  {each['reason']}" for each in decisions]


def _some(values: Counter[str]) -> str:
    found = ", ".join(f"{value[:40]!r} ({count})" for value, count in values.most_common(5))
    return f"{found}, and {len(values) - 5} others" if len(values) > 5 else found


def _ends(owners: int) -> list[int]:
    """Owners are unlike one another: the first holds about three times as many rows as the last."""
    shares = [3 * owners - 2 * place for place in range(owners)]
    return [sum(shares[: place + 1]) for place in range(owners)]


def _shares_sum(owners: int) -> int:
    return _ends(owners)[-1]
