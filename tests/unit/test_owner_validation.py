"""What a CSV must be: each class of bad input has its own refusal, by row and column, and never repeats a cell."""

from __future__ import annotations

import contextlib
import io
import tempfile
import tracemalloc
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.errors import Malformed, Refused, TooLarge
from hessian.learning.columns import ColumnMissing
from hessian.learning.formats import framed
from hessian.learning.rows import RowsRefused
from hessian.uploads import as_csv
from owner_api.datasets.fingerprints import BATCH, FINGERPRINT_BYTES, FingerprintFile, canonical
from owner_api.datasets.validation import DatasetRefused, DatasetTooLarge, Summary, validate
from owner_api.settings import DatasetLimits

KEY = bytes(32)
LIMITS = DatasetLimits(dataset_rows=50, dataset_columns=6, dataset_cell_characters=20)
GOOD = b"income,age,Class\n1,2,good\n3,4,bad\n5,6,good\n"


def check(data: bytes, *, label: str = "Class", step: int = 1 << 16, limits: DatasetLimits = LIMITS) -> Summary:
    chunks = (data[start : start + step] for start in range(0, len(data), step))
    return validate(chunks, label=label, positive_value="bad", limits=limits, fingerprint_key=KEY, keep=len)


def fingerprints(data: bytes, *, label: str = "Class", key: bytes = KEY) -> set[bytes]:
    made = set[bytes]()
    validate([data], label=label, positive_value="bad", limits=LIMITS, fingerprint_key=key, keep=made.update)
    return made


def test_validate__a_good_table__tells_its_shape() -> None:
    summary = check(GOOD)
    assert (summary.columns, summary.rows, len(fingerprints(GOOD))) == (["income", "age", "Class"], 3, 6)


@pytest.mark.parametrize("step", [1, 3, 10])
@pytest.mark.parametrize("data", [GOOD, b"\xef\xbb\xbf" + GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD[:-1]])
def test_validate__byte_order_mark_line_ends_and_chunks__change_nothing(data: bytes, step: int) -> None:
    assert check(data, step=step) == check(GOOD)
    assert fingerprints(data) == fingerprints(GOOD)


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
        validate(endless(), label="Class", positive_value="bad", limits=LIMITS, fingerprint_key=KEY, keep=len)


@contextlib.contextmanager
def bounded(limit: int) -> Iterator[None]:
    """Fails where more memory than this was in use at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_validate__a_small_file_of_very_long_cells__is_refused_in_bounded_memory() -> None:
    rows, characters = 256, 100_000  # 200 MB in cells
    cell = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * characters]))
    file = io.BytesIO()
    table = pa.table({"Class": ["good", "bad"] * (rows // 2), **{f"c{number}": cell for number in range(8)}})
    pq.write_table(table, file, row_group_size=16, compression="zstd")
    data = file.getvalue()
    assert len(data) < 100_000
    with bounded(24 << 20), pytest.raises(DatasetTooLarge, match="row 1, column 'c0'"):
        validate(as_csv([framed(data), data]), label="Class", positive_value="bad", limits=DatasetLimits(), fingerprint_key=KEY, keep=len)


def test_validate__many_rows__are_forgotten_as_they_are_read() -> None:
    rows, kept = 20_000, 0

    def lines() -> Iterator[bytes]:
        yield b"income,age,Class\n"
        for row in range(rows):
            yield b"%d,%d,%s\n" % (row, row * 7, (b"good", b"bad")[row % 2])
            assert kept >= 2 * (row - 5_000)  # what is known of a row leaves before the table ends

    def keep(made: Collection[bytes]) -> None:
        nonlocal kept
        kept += len(made)

    with bounded(4 << 20):
        found = validate(lines(), label="Class", positive_value="bad", limits=DatasetLimits(), fingerprint_key=KEY, keep=keep)
    assert (found.rows, kept) == (rows, 2 * rows)


def test_fingerprint_file__more_than_a_batch__gives_all_back() -> None:
    made = [number.to_bytes(FINGERPRINT_BYTES, "big") for number in range(2 * BATCH + 5)]
    with tempfile.TemporaryFile() as file:
        waiting = FingerprintFile(file)
        for start in range(0, len(made), 999):
            waiting.add(made[start : start + 999])
        waiting.add(made[:10])
        batches = list(waiting.batches())
    assert [len(batch) for batch in batches] == [BATCH - 10, BATCH, 15]  # ten were there twice
    assert {one for batch in batches for one in batch} == set(made)


@settings(max_examples=500, deadline=None)
@given(text=st.from_regex(r"[+-]?[0-9]{1,9}(\.[0-9]{0,8})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_canonical__a_number_however_written__is_its_decimal_value(text: str) -> None:
    number = Decimal(text)
    plain = str(number.normalize()) if number else "0"
    assert canonical(text) == plain


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
    assert len(fingerprints(version, label=label) & fingerprints(WIDE)) >= 3


def test_fingerprints__another_value_or_another_key__are_others() -> None:
    assert len(fingerprints(GOOD.replace(b"1,2", b"1,3")) & fingerprints(GOOD)) == 4
    assert not fingerprints(GOOD, key=b"\x01" * 32) & fingerprints(GOOD)


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
