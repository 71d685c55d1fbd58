"""The demo's data and its target: the cut is what it says, and the constant is what its script derives."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

from devstack.demo import lending_club, target
from devstack.demo.case import Shards, Table, write_shards
from hessian.learning.fitting import Outline, fit
from hessian.learning.rows import read_batches, text_lines


@cache
def shards() -> Shards:
    return lending_club.split(lending_club.load())


def rows_of(table: Table) -> Counter[tuple[str, ...]]:
    return Counter(zip(*table.values(), strict=True))


def test_split__the_fixed_seed__deals_every_loan_once_in_the_stated_sizes() -> None:
    tables = (*shards().owners, shards().validation, shards().test)

    assert [len(table["Class"]) for table in tables] == [2400, 2000, 1600, 1200, 800, 928, 929]
    assert sum((rows_of(table) for table in tables), Counter()) == rows_of(lending_club.load())
    for held in (shards().validation, shards().test):
        assert held["Class"].count("bad") in (48, 49)


def test_split__another_seed__deals_otherwise_and_the_same_seed_alike() -> None:
    assert lending_club.split(lending_club.load()) == shards()
    assert lending_club.split(lending_club.load(), 1).validation != shards().validation


def test_write_shards__read_back_as_an_owner_would__gives_the_same_rows(tmp_path: Path) -> None:
    specification = fit(Outline.from_plain(lending_club.OUTLINE), shards().validation)
    paths = write_shards(tmp_path, shards())
    ((x, y),) = read_batches(text_lines([paths["owner-5"].read_bytes()]), specification)
    expected_x, expected_y = specification.matrix(shards().owners[4])

    assert specification.dimension == 42
    assert sorted(paths) == ["owner-1", "owner-2", "owner-3", "owner-4", "owner-5", "test", "validation"]
    assert (x == expected_x).all()
    assert (y == expected_y).all()


def test_replay__the_demo_path__derives_the_target_and_what_the_report_promises() -> None:
    path = target.replay(shards())
    reached = next(number for number, error in enumerate(path.errors) if error <= lending_club.TARGET_ERROR)

    assert path.target == lending_club.TARGET_ERROR
    assert reached == target.TARGET_ROUND
    assert path.auc_integers[reached] > path.auc_logistic - 0.01
    assert max(abs(a - b) for a, b in zip(path.auc_integers, path.auc_float64, strict=True)) < 1e-4
