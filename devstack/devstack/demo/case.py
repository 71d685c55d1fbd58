"""What a demo trains on: whose rows they are, what the lender asks for, and what is expected of the outcome."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.demo.parties import Lender
from hessian.identifiers import ErrorUnits

Table = dict[str, list[str]]
"""Raw cells by column."""


@dataclass(frozen=True)
class Shards:
    """Who holds which rows."""

    owners: tuple[Table, ...]
    validation: Table
    test: Table


@dataclass(frozen=True)
class Plan:
    """The part of the lender's wish that depends on the table. `wish` holds fields of `POST /v1/models`."""

    wish: dict[str, Any]
    target: ErrorUnits


@dataclass(frozen=True)
class Case:
    """One table and how it is trained on. `plan` gets the lender's node and the id of the validation set it holds.

    `standard_errors` widens what the AUC may lie below logistic regression's: 0 for a table whose outcome is known.
    """

    name: str
    cutting: str
    label: str
    positive: str
    owners: int
    max_rounds: int
    load: Callable[[], Shards]
    plan: Callable[[Lender, str, Shards], Plan]
    standard_errors: int = 0


def ordered(labels: Sequence[str], seed: int) -> list[int]:
    """Row numbers in an order that seed and row number alone decide: the same on every machine and library version."""
    return sorted(range(len(labels)), key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())


def rows_of(table: Table, rows: Sequence[int]) -> Table:
    """Some rows of a table."""
    return {name: [cells[row] for row in rows] for name, cells in table.items()}


def write_csv(path: Path, table: Table) -> None:
    """One shard as the CSV its owner would upload."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def write_shards(directory: Path, shards: Shards) -> dict[str, Path]:
    """owner-1.csv, owner-2.csv, …, validation.csv and test.csv in a directory that exists; the paths by name."""
    tables = {
        **{f"owner-{place}": table for place, table in enumerate(shards.owners, start=1)},
        "validation": shards.validation,
        "test": shards.test,
    }
    paths = {name: directory / f"{name}.csv" for name in tables}
    for name, table in tables.items():
        write_csv(paths[name], table)
    return paths
