"""The feature specification: cells to integers, what is refused, the bounds, the plain form, the fit, and the strict CSV reader."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.errors import Malformed
from hessian.learning.cells import CellRefused
from hessian.learning.columns import Category, ColumnMissing, Indicator, Label, Level, Numeric, SpecificationRefused
from hessian.learning.features import FeatureSpecification
from hessian.learning.fitting import FitRefused, NumericOutline, Outline, fit
from hessian.learning.plain import BILLION, ShapeRefused, billionths, decimal
from hessian.learning.rows import LONGEST_RECORD, RowsRefused, read_batches, read_columns, text_lines

RATE = Numeric("rate", minimum=0, maximum=100 * BILLION, clip_low=2 * BILLION, clip_high=30 * BILLION, mean=12 * BILLION, scale=5 * BILLION)
TERM = Category("term", (Level("short", ("36", "24"), BILLION // 2, BILLION), Level("long", ("60",), BILLION // 2, BILLION)))
HOME = Category("home", (Level("own", ("OWN",), 0, BILLION), Level("other", (), 0, BILLION)))
LABEL = Label("bad", ("yes",), ("no",))
SPECIFICATION = FeatureSpecification((RATE, TERM, HOME), LABEL)
GOOD = {"rate": ["13.5", "99", "0"], "term": ["36", "60", "24"], "home": ["OWN", "RENT", ""], "bad": ["no", "yes", "no"]}
ONE = 1 << 16


def outline(**changes: object) -> dict[str, object]:
    return {
        "features": [
            {"kind": "numeric", "name": "rate", "minimum": "0", "maximum": "100"},
            {"kind": "category", "name": "term", "levels": [{"name": "short", "values": ["36"]}, {"name": "other", "values": []}]},
        ],
        "label": {"column": "bad", "positive": ["yes"], "negative": ["no"]},
        "feature_bits": 16,
        "clip_deviations": 4,
        "relevance_floor": "0.05",
        **changes,
    }


def test_matrix__good_rows__gives_clipped_standardised_integers() -> None:
    x, y = SPECIFICATION.matrix(GOOD)

    assert SPECIFICATION.names == ("intercept", "rate", "term=short", "term=long", "home=own", "home=other")
    assert x.tolist() == [
        [ONE, round(1.5 / 5 * ONE), ONE // 2, -ONE // 2, ONE, 0],
        [ONE, round(18 / 5 * ONE), -ONE // 2, ONE // 2, 0, ONE],
        [ONE, -2 * ONE, ONE // 2, -ONE // 2, 0, ONE],
    ]
    assert y.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "infinity",
        "1_000",
        "0x10",
        " 1",
        "1 ",
        "+1",
        "١٢",
        "1e",
        "1,5",
        "$5",
        "5 %",
        "1e309",
        "-0.1",
        "100.1",
        "1\n",
        "--1",
    ],
)
def test_matrix__cell_is_no_number_in_range__names_row_and_column_but_not_the_cell(cell: str) -> None:
    with pytest.raises(CellRefused) as refusal:
        SPECIFICATION.matrix({**GOOD, "rate": ["13.5", cell, "0"]}, first_row=41)

    assert (refusal.value.row, refusal.value.column) == (42, "rate")
    assert refusal.value.sentence.startswith("row 42, column 'rate': ")
    assert not cell.strip() or cell not in refusal.value.reason


@pytest.mark.parametrize("cell", ["0", "100", "1e2", "1.", ".5", "1E1", "5e-324", "007", "-0"])
def test_matrix__unusual_but_plain_number__is_taken(cell: str) -> None:
    SPECIFICATION.matrix({**GOOD, "rate": [cell] * 3})


def test_matrix__unknown_category_without_other__is_refused() -> None:
    with pytest.raises(CellRefused, match="row 2, column 'term': not one of the declared values"):
        SPECIFICATION.matrix({**GOOD, "term": ["36", "48", "60"]})


@pytest.mark.parametrize("cell", ["", "1", "YES", "maybe"])
def test_matrix__unknown_label__is_refused(cell: str) -> None:
    with pytest.raises(CellRefused, match="row 3, column 'bad'"):
        SPECIFICATION.matrix({**GOOD, "bad": ["no", "yes", cell]})


def test_matrix__column_absent__is_refused() -> None:
    with pytest.raises(ColumnMissing, match="'bad'"):
        SPECIFICATION.matrix({name: cells for name, cells in GOOD.items() if name != "bad"})


@given(
    rates=st.lists(st.floats(0, 100).map(repr), min_size=1, max_size=5),
    term=st.sampled_from(["36", "60"]),
    home=st.sampled_from(["OWN", "x"]),
)
@settings(deadline=None)
def test_bounds__any_legal_row__are_not_exceeded(rates: list[str], term: str, home: str) -> None:
    x = SPECIFICATION.design({"rate": rates, "term": [term] * len(rates), "home": [home] * len(rates)})

    assert (np.abs(x).max(axis=0) <= np.array(SPECIFICATION.largest_quantised_entries)).all()
    assert np.abs(x).sum(axis=1).max() <= SPECIFICATION.largest_quantised_norm
    assert np.abs(x).max() <= SPECIFICATION.largest_entry * ONE
    rows = [np.abs(np.outer(row, row)).sum(axis=1).max() for row in x]
    assert max(rows) <= SPECIFICATION.largest_row_sum * ONE**2


def test_bounds__extreme_rows__are_reached() -> None:
    x = SPECIFICATION.design({"rate": ["30"], "term": ["60"], "home": ["OWN"]})

    assert np.abs(x).max() == SPECIFICATION.largest_quantised_entry == round(3.6 * ONE)
    assert np.abs(x).sum() == SPECIFICATION.largest_quantised_norm
    assert SPECIFICATION.largest_row_sum == math.ceil(Fraction(int(np.abs(x).max()) * int(np.abs(x).sum()), ONE**2))


def test_from_plain__of_to_plain__is_the_same_specification() -> None:
    again = FeatureSpecification.from_plain(SPECIFICATION.to_plain())

    assert again == SPECIFICATION
    assert again.digest == SPECIFICATION.digest
    assert FeatureSpecification((RATE, HOME, TERM), LABEL).digest != SPECIFICATION.digest


INCOME = Numeric(
    "income", 0, 9 * BILLION, BILLION, 5 * BILLION, 3 * BILLION, 2 * BILLION, ("", "NA"), Indicator(BILLION // 4, BILLION), "k"
)
LACKING = FeatureSpecification((INCOME,), LABEL)


def test_matrix__value_missing_or_with_its_unit__is_what_the_specification_says() -> None:
    x, _ = LACKING.matrix({"income": ["5k", "NA", "", "0.5"], "bad": ["no"] * 4})

    assert LACKING.names == ("intercept", "income", "income=missing")
    assert x.tolist() == [[ONE, ONE, -ONE // 4], [ONE, 0, 3 * ONE // 4], [ONE, 0, 3 * ONE // 4], [ONE, -ONE, -ONE // 4]]
    assert LACKING.largest_quantised_entries == (ONE, ONE, 3 * ONE // 4)
    assert LACKING.largest_quantised_norm == ONE + ONE + ONE // 4
    assert FeatureSpecification.from_plain(LACKING.to_plain()) == LACKING


@pytest.mark.parametrize("cell", ["5kk", "k", "5 k", "na", "nan", " "])
def test_matrix__odd_cell_where_values_may_be_missing__is_refused(cell: str) -> None:
    with pytest.raises(CellRefused, match="row 1, column 'income': not a decimal number"):
        LACKING.matrix({"income": [cell], "bad": ["no"]})


ODD = [(("1",), "", False), ((" ",), "", False), (("", ""), "", False), ((), "", True), ((), "e", False)]


@pytest.mark.parametrize(("missing", "unit", "indicator"), ODD)
def test_numeric__missing_values_or_unit_like_a_number__are_refused(missing: tuple[str, ...], unit: str, indicator: bool) -> None:
    with pytest.raises(SpecificationRefused):
        NumericOutline("income", 0, BILLION, None, missing, indicator, unit)


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"features": []},
        {"features": [{"kind": "text", "name": "x"}]},
        {"feature_bits": 0},
        {"feature_bits": True},
        {"feature_bits": "16"},
        {"label": {"column": "rate", "positive": ["yes"], "negative": ["no"]}},
        {"label": {"column": "bad", "positive": ["yes"], "negative": ["yes"]}},
        {"label": {"column": "bad", "positive": [], "negative": ["no"]}},
        {"label": {"column": "bad", "positive": ["yes\0"], "negative": ["no"]}},
    ],
)
def test_from_plain__wrong_shape__is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        FeatureSpecification.from_plain({**SPECIFICATION.to_plain(), **change})


def test_specification__label_is_a_feature__is_refused() -> None:
    with pytest.raises(SpecificationRefused, match="none of them the label's"):
        FeatureSpecification((RATE, TERM), Label("term", ("1",), ("0",)))


def test_specification__scale_too_small_for_the_clips__is_refused() -> None:
    with pytest.raises(SpecificationRefused, match="scale is too small"):
        FeatureSpecification((Numeric("rate", 0, BILLION, 0, BILLION, 0, 1),), LABEL)


def test_specification__more_than_1024_entries__is_refused() -> None:
    levels = tuple(Level(str(place), (str(place),), 0, BILLION) for place in range(1024))
    with pytest.raises(SpecificationRefused, match="1025 entries"):
        FeatureSpecification((Category("many", levels),), LABEL)


def test_category__raw_value_named_twice__is_refused() -> None:
    with pytest.raises(SpecificationRefused, match="named twice"):
        Category("c", (Level("a", ("x",), 0, BILLION), Level("b", ("x",), 0, BILLION)))


@given(st.integers(-(2**63) + 1, 2**63 - 1))
@settings(deadline=None)
def test_billionths__of_decimal__is_the_same(value: int) -> None:
    assert billionths(decimal(value)) == value


@pytest.mark.parametrize("text", ["", "1e3", "nan", "1_0", " 1", "٣", "0.0000000001", "99999999999", "9999999999", ".5", "+1"])
def test_billionths__not_a_plain_decimal__is_refused(text: str) -> None:
    with pytest.raises(ShapeRefused):
        billionths(text)


def test_fit__validation_rows__standardises_clips_and_scales_by_relevance() -> None:
    rates = [str(value) for value in (5, 10, 15, 20)] * 5 + ["100"]
    bad = ["no", "no", "yes", "yes"] * 5 + ["no"]
    columns = {"rate": rates, "term": ["36", "99", "48"] * 7, "bad": bad}
    fitted = fit(Outline.from_plain(outline(clip_deviations=2)), columns)
    flat = fit(Outline.from_plain(outline(clip_deviations=2, relevance_floor="1")), columns)
    x, y = fitted.matrix(columns)
    unscaled, _ = flat.matrix(columns)
    rate, term = fitted.features

    assert isinstance(rate, Numeric)
    assert isinstance(term, Category)
    assert rate.clip_high < 100 * BILLION
    assert rate.clip_low == 0
    assert np.abs(x[:, 1:].mean(axis=0)).max() < 2
    assert unscaled[:, 1].std() == pytest.approx(ONE, rel=1e-4)
    assert term.levels[0].mean == round(BILLION / 3)
    relevance = np.maximum(np.abs(np.corrcoef(unscaled[:, 1:].T, y)[-1, :-1]), 0.05)
    ratio = x[:, 1:].std(axis=0) / unscaled[:, 1:].std(axis=0)
    assert ratio == pytest.approx(np.sqrt(relevance / relevance.max()), rel=1e-3)


def test_fit__constant_column__gives_an_entry_that_is_always_zero() -> None:
    fitted = fit(Outline.from_plain(outline()), {"rate": ["7"] * 4, "term": ["36"] * 4, "bad": ["no", "yes"] * 2})

    assert fitted.design({"rate": ["7", "90"], "term": ["36", "36"]})[:, 1].tolist() == [0, 0]


def test_fit__one_label_only__is_refused() -> None:
    with pytest.raises(FitRefused, match="both label values"):
        fit(Outline.from_plain(outline()), {"rate": ["7", "8"], "term": ["36"] * 2, "bad": ["no", "no"]})


@pytest.mark.parametrize(
    "change", [{"x": 1}, {"relevance_floor": "0"}, {"relevance_floor": 0.05}, {"clip_deviations": 0}, {"features": "all"}]
)
def test_outline__wrong_shape__is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        Outline.from_plain(outline(**change))


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 7))
@settings(deadline=None)
def test_text_lines__any_cut_into_chunks__gives_the_same_lines(cuts: list[int], batch_rows: int) -> None:
    text = "\ufeffrate,term,home,bad\r\n" + "13.5,36,ÖWN,no\r\n" * 9 + '2,"60","a\nb",yes'
    data = text.encode()
    chunks = []
    for cut in cuts:
        chunks.append(data[:cut])
        data = data[cut:]
    batches = list(read_batches(text_lines([*chunks, data]), SPECIFICATION, batch_rows=batch_rows))

    assert sum(len(y) for _, y in batches) == 10
    assert all(len(y) <= batch_rows for _, y in batches)
    assert batches[-1][1][-1] == 1


HEADER = "rate,term,home,bad\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (HEADER, "no rows"),
        ("rate,term,home\n1,36,x\n", "'bad'"),
        ("rate,rate,term,home,bad\n", "twice"),
        ("rate, ,term,home,bad\n", "without a name"),
        (HEADER + "1,36,x,no\n1,36,x\n", "row 2 has 3 cells"),
        (HEADER + "1,36,x,no,5\n", "row 1 has 5 cells"),
        (HEADER + "1,36,x,no\n\n", "row 2 has 0 cells"),
        (HEADER + '1,36,"x,no\n', "not CSV"),
        (HEADER + '1,36,"x"y,no\n', "not CSV"),
        (HEADER + "1,36,x\0,no\n", "NUL"),
        (HEADER + "1,36," + "x" * 200_000 + ",no\n", "field larger"),
        (",".join(f"c{i}" for i in range(5000)) + "\n", "5000 columns"),
    ],
)
def test_read_batches__table_is_malformed__is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        list(read_batches(text_lines([text.encode()]), SPECIFICATION))


@pytest.mark.parametrize("data", [HEADER.encode("utf-16"), HEADER.encode() + b"1,36,\xff,no\n", HEADER.encode() + "é".encode()[:1]])
def test_text_lines__not_utf8__is_refused(data: bytes) -> None:
    with pytest.raises(RowsRefused, match="UTF-8"):
        list(read_columns(text_lines([data])))


def test_text_lines__line_without_end__is_refused_before_it_is_held() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65_536

    with pytest.raises(RowsRefused, match="longer than"):
        list(text_lines(endless()))


def test_read_columns__quote_never_closed__is_refused_within_one_record() -> None:
    lines = [HEADER, '1,36,"x\n', *["y" * 1000 + "\n"] * (2 * LONGEST_RECORD // 1000)]
    with pytest.raises(RowsRefused):
        list(read_columns(lines))


def test_read_batches__bad_cell_in_a_later_batch__names_its_row_in_the_file() -> None:
    lines = [HEADER, *["1,36,x,no\n"] * 10, "1,36,x,perhaps\n"]
    with pytest.raises(CellRefused, match="row 11, column 'bad'"):
        list(read_batches(lines, SPECIFICATION, batch_rows=3))
