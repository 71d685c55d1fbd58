"""Any table: what each kind of column becomes, and the reason that is given; Lending Club's own columns in all their spellings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hessian.learning import lending_club
from hessian.learning.columns import OTHER, Label
from hessian.learning.decisions import LONGEST_REASON, Use
from hessian.learning.fitting import CategoryOutline, NumericOutline, Outline, fit
from hessian.learning.proposal import MOST_LEVELS, NothingToLearn, Proposal, propose

ROWS = 400
LABEL = Label("bad", ("yes",), ("no",))
DRAW = np.random.default_rng(5)
BAD = ["yes" if value else "no" for value in DRAW.random(ROWS) < 0.3]
AGE = [str(value) for value in DRAW.integers(18, 80, ROWS)]


def proposed(**columns: list[str]) -> Proposal:
    return propose({"age": AGE, **columns, "bad": BAD}, LABEL)


def reason(found: Proposal, column: str) -> tuple[Use, str]:
    return next((each.use, each.reason) for each in found.decisions if each.column == column)


def test_propose__plain_numbers__are_clipped_where_the_rows_thin_out() -> None:
    income = [f"{value:.2f}" for value in DRAW.lognormal(8, 1, ROWS)]
    found = proposed(income=income)
    feature = next(each for each in found.features if each.name == "income")
    assert isinstance(feature, NumericOutline)
    assert feature.clip is not None
    values = np.array(income, dtype=float)
    assert 0 < (values > feature.clip[1] / 10**9).mean() < 0.02
    assert feature.missing_values == ("",)
    assert not feature.indicator


def test_propose__numbers_often_missing__have_an_entry_that_says_so() -> None:
    debt = ["NA" if row % 10 == 0 else "" if row % 25 == 1 else str(row * 7 % 90) for row in range(ROWS)]
    feature = next(each for each in proposed(debt=debt).features if each.name == "debt")
    assert isinstance(feature, NumericOutline)
    assert (feature.missing_values, feature.indicator) == (("", "NA"), True)
    assert "14.0 % missing" in reason(proposed(debt=debt), "debt")[1]


def test_propose__numbers_with_a_unit__lose_it() -> None:
    rate = [f"{row % 30}.{row % 10}%" for row in range(ROWS)]
    feature = next(each for each in proposed(rate=rate).features if each.name == "rate")
    assert isinstance(feature, NumericOutline)
    assert feature.unit == "%"


def test_propose__text_with_rare_and_missing_values__becomes_levels() -> None:
    job = ["", "fixed", "free", "fixed"] * (ROWS // 4)
    job[7], job[8] = "astronaut", "clown"
    feature = next(each for each in proposed(job=job).features if each.name == "job")
    assert isinstance(feature, CategoryOutline)
    assert feature.levels == (("fixed", ("fixed",)), ("free", ("free",)), ("missing", ("",)), (OTHER, ()))
    assert "2 rare values" in reason(proposed(job=job), "job")[1]


def test_propose__very_many_levels__keeps_the_most_frequent() -> None:
    state = [f"s{row % 40}" for row in range(ROWS)]
    feature = next(each for each in proposed(state=state).features if each.name == "state")
    assert isinstance(feature, CategoryOutline)
    assert len(feature.levels) == MOST_LEVELS + 1


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["7"] * ROWS, "the same value"),
        ([""] * ROWS, "the same value"),
        (["", "NA"] * (ROWS // 2), "lacks a value"),
        (["", "7"] * (ROWS // 2), "has the same one"),
        ([str(row + 1000) for row in range(ROWS)], "names rows"),
        ([f"customer {row}" for row in range(ROWS)], "names rows"),
        ([f"2016-{1 + row % 12:02}-01" for row in range(ROWS)], "a date"),
        ([f"{month}-2016" for month in ("Jan", "Feb", "Mar", "Apr") * (ROWS // 4)], "a date"),
        ([f"{row % 2}" + "x" * 300 for row in range(ROWS)], "too long"),
        (AGE, "the same as column 'age'"),
        (["1" if label == "yes" else "0" for label in BAD], "known only afterwards"),
        (["gone" if label == "yes" else "fine" for label in BAD], "known only afterwards"),
        ([f"w{row // 2}" for row in range(ROWS)], "no value is frequent enough"),
        (["broken" if row == 3 else str(row * 37 % 391) for row in range(ROWS)], "names rows"),
        (["broken" if row == 3 else str(row * 37 % 191) for row in range(ROWS)], "no value is frequent enough"),
    ],
)
def test_propose__columns_that_cannot_be_learned_from__are_left_out_with_the_reason(cells: list[str], says: str) -> None:
    found = proposed(odd=cells)
    use, why = reason(found, "odd")
    assert (use, says in why) == (Use.LEFT_OUT, True), why
    assert [each.name for each in found.features] == ["age"]


def test_propose__more_entries_than_the_rows_carry__keeps_what_tells_most() -> None:
    telling = [str(DRAW.integers(0, 50) + (30 if label == "yes" else 0)) for label in BAD]
    noise = {f"n{place}": [str(value) for value in DRAW.integers(0, 99, ROWS)] for place in range(60)}
    found = proposed(**noise, telling=telling)
    assert len(found.features) == ROWS // 10 - 1
    assert "telling" in {each.name for each in found.features}
    assert any("validation rows carry" in each.reason for each in found.decisions)


def test_propose__nothing_left__says_why() -> None:
    with pytest.raises(NothingToLearn, match="'same': every row has the same value"):
        propose({"same": ["1"] * ROWS, "bad": BAD}, LABEL)
    with pytest.raises(NothingToLearn, match="no column besides the label"):
        propose({"bad": BAD}, LABEL)


def test_propose__lending_clubs_own_columns__are_known() -> None:
    loans = lending_club_rows(ROWS)
    found = propose(loans, Label("loan_status", ("Charged Off",), ("Fully Paid",)))
    uses = {each.column: each.use for each in found.decisions}
    assert {name for name, use in uses.items() if use is Use.LEFT_OUT} >= {
        "id", "total_pymnt", "recoveries", "hardship_flag", "settlement_status", "last_pymnt_d", "issue_d", "emp_title", "zip_code",
    }  # fmt: skip
    features = {each.name: each for each in found.features}
    rate, term, years = features["int_rate"], features["term"], features["emp_length"]
    assert isinstance(rate, NumericOutline)
    assert (rate.unit, rate.minimum, rate.maximum) == ("%", 0, 100 * 10**9)
    assert isinstance(term, CategoryOutline)
    assert " 36 months" in dict(term.levels)["36 months"]
    assert isinstance(years, CategoryOutline)
    assert dict(years.levels)["10 years and more"] == ("10+ years", "emp_ge_10")
    specification = fit(Outline(found.features, Label("loan_status", ("Charged Off",), ("Fully Paid",))), loans)
    x, _ = specification.matrix(loans)
    assert x.shape == (ROWS, specification.dimension)
    assert sum(x[0, specification.names.index(f"term={name}")] > 0 for name in ("36 months", "60 months")) == 1


def test_propose__one_known_name_alone__is_not_lending_clubs() -> None:
    assert not lending_club.is_lending_club({"term": [], "id": []})
    assert reason(proposed(recoveries=[str(row % 7) for row in range(ROWS)]), "recoveries")[0] is Use.NUMERIC


def lending_club_rows(rows: int) -> dict[str, list[str]]:
    bad = DRAW.random(rows) < 0.2
    return {
        "id": [str(5_000_000 + 3 * row) for row in range(rows)],
        "funded_amnt": [str(value) for value in DRAW.integers(1000, 35000, rows)],
        "term": [" 36 months" if value else " 60 months" for value in DRAW.random(rows) < 0.7],
        "int_rate": [f"{value:.2f}%" for value in DRAW.uniform(5, 25, rows) + 3 * bad],
        "sub_grade": ["ABCDEFG"[value // 5] + str(value % 5 + 1) for value in DRAW.integers(0, 35, rows)],
        "emp_length": [["< 1 year", "3 years", "10+ years", "n/a", ""][value] for value in DRAW.integers(0, 5, rows)],
        "emp_title": [f"clerk {value}" for value in DRAW.integers(0, 90, rows)],
        "annual_inc": [f"{value:.1f}" for value in DRAW.lognormal(11, 0.5, rows)],
        "verification_status": [["Verified", "Source Verified", "Not Verified"][value] for value in DRAW.integers(0, 3, rows)],
        "revol_util": ["" if value < 5 else f"{value:.1f}%" for value in DRAW.uniform(0, 99, rows)],
        "issue_d": [["Dec-2015", "Jan-2016"][value] for value in DRAW.integers(0, 2, rows)],
        "zip_code": [f"{value:03}xx" for value in DRAW.integers(0, 50, rows)],
        "total_pymnt": [f"{value:.2f}" for value in DRAW.uniform(0, 1000, rows)],
        "recoveries": [str(value) for value in DRAW.integers(0, 9, rows)],
        "last_pymnt_d": [["Dec-2018", "Jan-2019"][value] for value in DRAW.integers(0, 2, rows)],
        "hardship_flag": [["N", "Y"][value] for value in DRAW.integers(0, 2, rows)],
        "settlement_status": [["", "ACTIVE"][value] for value in DRAW.integers(0, 2, rows)],
        "loan_status": ["Charged Off" if value else "Fully Paid" for value in bad],
    }


def _levels(feature: NumericOutline | CategoryOutline) -> list[str]:
    return ["missing"] if isinstance(feature, NumericOutline) else [name for name, _ in feature.levels]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12),
        st.lists(
            st.one_of(st.sampled_from(["", "NA", "1", "-2.5", "x", "9%", "2016-01-01", "other", "missing"]), st.text(max_size=5)),
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(20, 60),
)
@settings(deadline=None, max_examples=150)
def test_propose__any_table__gives_an_outline_that_fits_its_own_rows(parts: dict[str, list[str]], rows: int) -> None:
    columns = {name: [cells[row % len(cells)] for row in range(rows)] for name, cells in parts.items() if name != "y"}
    columns["y"] = ["1" if row % 3 else "0" for row in range(rows)]
    label = Label("y", ("1",), ("0",))
    try:
        found = propose(columns, label)
    except NothingToLearn:
        return
    assert all(0 < len(each.reason) <= LONGEST_REASON for each in found.decisions)
    assert len(found.decisions) == len(columns) - 1
    names = [name for feature in found.features for name in (feature.name, *(f"{feature.name}={level}" for level in _levels(feature)))]
    assume(len(set(names)) == len(names))  # two columns whose entries would be called alike are their owner's to rename
    specification = fit(Outline(found.features, label), columns)
    assert specification.matrix(columns)[0].shape == (rows, specification.dimension)
    assert type(specification).from_plain(specification.to_plain()) == specification
