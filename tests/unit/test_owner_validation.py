"""What a CSV must be: each class of bad input has its own refusal, by row and column, and never repeats a cell."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.errors import Malformed, Refused, TooLarge
from hessian.learning.columns import ColumnMissing
from hessian.learning.rows import RowsRefused
from owner_api.datasets.validation import DatasetRefused, DatasetTooLarge, Summary, validate
from owner_api.settings import DatasetLimits

KEY = bytes(32)
LIMITS = DatasetLimits(dataset_rows=50, dataset_columns=6, dataset_cell_characters=20)
GOOD = b"income,age,Class\n1,2,good\n3,4,bad\n5,6,good\n"


def check(data: bytes, *, label: str = "Class", step: int = 1 << 16, limits: DatasetLimits = LIMITS) -> Summary:
    chunks = (data[start : start + step] for start in range(0, len(data), step))
    return validate(chunks, label=label, positive_value="bad", limits=limits, fingerprint_key=KEY)


def test_validate__a_good_table__tells_its_shape() -> None:
    summary = check(GOOD)
    assert (summary.columns, summary.rows, len(summary.fingerprints)) == (["income", "age", "Class"], 3, 6)


@pytest.mark.parametrize("step", [1, 3, 10])
@pytest.mark.parametrize("data", [GOOD, b"\xef\xbb\xbf" + GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD[:-1]])
def test_validate__byte_order_mark_line_ends_and_chunks__change_nothing(data: bytes, step: int) -> None:
    assert check(data, step=step) == check(GOOD)


def test_validate__quoted_cells_with_delimiters_and_line_ends__are_read() -> None:
    assert check(b'name,Class\n"a,b\nc",good\n"say ""hi""",bad\n').rows == 2


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", RowsRefused, "empty"),
        (b"\n", RowsRefused, ""),
        (b"income,age,Class\n", RowsRefused, "no rows"),
        (b"income,age,Class\n1,2,bad\n", DatasetRefused, "one row"),
        (b"income,Class\n1,bad\n2,bad\n", DatasetRefused, "only the positive"),
        (b"income,Class\n1,good\n2,good\n", DatasetRefused, "no positive"),
        (b"income,Class\n1,good\n2,bad\n3,maybe\n", DatasetRefused, "row 3"),
        (b"income,Class\n1,good\n2,\n3,bad\n", DatasetRefused, "row 2"),
        (b"income,label\n1,good\n2,bad\n", ColumnMissing, "'Class'"),
        (b"Class\ngood\nbad\n", DatasetRefused, "one column"),
        (b"income,income,Class\n1,2,good\n", RowsRefused, "twice"),
        (b"income,,Class\n1,2,good\n", RowsRefused, "without a name"),
        (b"income, ,Class\n1,2,good\n", RowsRefused, "without a name"),
        (b"income,Class\n1,good\n1,2,bad\n", RowsRefused, "row 2"),
        (b"income,Class\n1,good\n\n2,bad\n", RowsRefused, "row 2"),
        (b"income,Class\n1,good\n2\n", RowsRefused, "row 2"),
        (b"income,Class\n1,g\x00ood\n2,bad\n", RowsRefused, ""),
        (b"income,Class\n\xff,good\n2,bad\n", RowsRefused, "UTF-8"),
        (GOOD.decode().encode("utf-16"), RowsRefused, ""),
        (b"\x1f\x8b\x08\x00" + bytes(20), RowsRefused, ""),
        (b"PK\x03\x04" + bytes(range(128, 200)), RowsRefused, ""),
        (b"income,Class\nNaN,good\n2,bad\n", DatasetRefused, "row 1, column 'income'"),
        (b"income,Class\n1,good\n-inf,bad\n", DatasetRefused, "row 2, column 'income'"),
        (b"income,Class\n1,good\n Infinity ,bad\n", DatasetRefused, "row 2"),
        (b"income,Class\n1e309,good\n2,bad\n", DatasetRefused, "row 1"),
        (b"income,Class\n" + b"9" * 21 + b",good\n2,bad\n", DatasetTooLarge, "20 characters"),
        (b"a,b,c,d,e,f,Class\n1,1,1,1,1,1,good\n2,2,2,2,2,2,bad\n", DatasetTooLarge, "6 columns"),
        (b"income,Class\n" + b"1,good\n2,bad\n" * 26, DatasetTooLarge, "50 rows"),
        (b'income,Class\n"never closed,good\n2,bad\n', RowsRefused, ""),
        (b'income,Class\n"1"2,good\n2,bad\n', RowsRefused, ""),
    ],
)
def test_validate__bad_input__is_refused_with_its_place(data: bytes, error: type[Refused], says: str) -> None:
    with pytest.raises(error) as refusal:
        check(data)
    assert says in refusal.value.sentence
    assert isinstance(refusal.value, Malformed | TooLarge)


def test_validate__a_bad_cell__is_not_repeated() -> None:
    with pytest.raises(Refused) as refusal:
        check(b"income,Class\nsecret-canary-and-more,good\n2,bad\n")
    assert "canary" not in refusal.value.sentence


@pytest.mark.parametrize("name", [b"__class__", b"id; drop table x", "émoji 🙂".encode(), b"<script>", b"=1+1"])
def test_validate__odd_column_names__are_data(name: bytes) -> None:
    assert check(name + b",Class\n1,good\n2,bad\n").columns[0] == name.decode()


def test_validate__a_very_long_line__is_refused_without_being_collected() -> None:
    def endless() -> Any:
        for _ in range(10_000):
            yield b"x" * (1 << 16)

    with pytest.raises(Refused):
        validate(endless(), label="Class", positive_value="bad", limits=LIMITS, fingerprint_key=KEY)


WIDE = b"income,age,Class,Other\n1,2,good,bad\n30,4.50,bad,good\n5,6,good,bad\n"


@pytest.mark.parametrize(
    ("version", "label"),
    [
        (b"Class,Other,age,income\nbad,bad, 2,1\ngood,good,4.50 ,30\nbad,bad,6,5\n", "Class"),  # moved, blanks, labels corrected
        (b"income,age,Class,Other\n1.0,2e0,good,bad\n+30,4.5,bad,good\n05.,6.00,good,bad\n", "Class"),  # numbers written otherwise
        (WIDE, "Other"),
        (b"b,Other,a,c\n2.0,bad,1,good\n4.5,good,30,bad\n6,bad,5,good\n", "Other"),  # all of it, and renamed
    ],
)
def test_fingerprints__version_written_otherwise_or_with_another_label__shares_every_row(version: bytes, label: str) -> None:
    assert len(check(version, label=label).fingerprints & check(WIDE).fingerprints) >= 3


def test_fingerprints__another_value_or_another_key__are_others() -> None:
    other = check(GOOD.replace(b"1,2", b"1,3")).fingerprints
    assert len(other & check(GOOD).fingerprints) == 4
    keyed = validate([GOOD], label="Class", positive_value="bad", limits=LIMITS, fingerprint_key=b"\x01" * 32)
    assert not keyed.fingerprints & check(GOOD).fingerprints


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_validate__arbitrary_bytes__are_taken_or_refused_but_never_break(data: bytes) -> None:
    with contextlib.suppress(Malformed, TooLarge):  # anything else fails the test
        check(data)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='ab,"\n\r\0; é\u202e0.9eEinfNa-', max_size=200))
def test_validate__arbitrary_tables__are_taken_or_refused_but_never_break(text: str) -> None:
    with contextlib.suppress(Malformed, TooLarge):
        check(b"income,Class\n1,good\n" + text.encode())
