"""Statistics of a stream: the fast readers against the strict ones on every kind of table, CSV and Parquet, and against Python integers."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.errors import Malformed
from hessian.learning.columns import Category, Indicator, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification, IntMatrix
from hessian.learning.formats import TableFormat, format_of, frame, length_of_end
from hessian.learning.plain import BILLION
from hessian.learning.rows import RowsRefused, read_batches, text_lines
from hessian.learning.statistics import SufficientStatistics, accumulate
from hessian.learning.streaming import statistics_of
from hessian.learning.tables import chunks_of, read_table

B = BILLION
RATE = Numeric("rate", 0, 100 * B, 2 * B, 30 * B, 12 * B, 5 * B, unit="%")
INCOME = Numeric("income", -B, 10**9 * B, 0, 200_000 * B, 40_000 * B, 30_000 * B, ("", "NA"), Indicator(B // 10, B))
AGE = Numeric("age", 0, 120 * B, 18 * B, 90 * B, 40 * B, 12 * B)
TERM = Category("term", (Level("short", (" 36 months", "36"), B // 2, B), Level("long", ("60",), B // 2, B)))
HOME = Category("home", (Level("own", ("OWN", "ÖWN"), 0, B), Level("none", ("",), 0, B), Level("other", (), 0, B)))
SPECIFICATION = FeatureSpecification((RATE, INCOME, AGE, TERM, HOME), Label("bad", ("yes",), ("no",)))
HEADER = ["note", "rate", "income", "age", "term", "home", "bad"]


def strictly(data: bytes) -> SufficientStatistics:
    return accumulate(read_batches(text_lines([data]), SPECIFICATION), SPECIFICATION.dimension)


def cut(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def outcome(read: Any, *arguments: Any, **options: Any) -> SufficientStatistics | None:
    try:
        return SufficientStatistics(*vars(read(*arguments, **options)).values())
    except Malformed:
        return None


def mostly(good: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    return st.one_of(*[st.sampled_from(good)] * 60, st.sampled_from(odd))


CELLS = (
    st.sampled_from(["", "x", "a,b", 'say "hi"', "one\ntwo", "ü", "\t"]),
    mostly(["13.5", "13.5%", "0", "1e1", "99.9%"], ["13.5%%", "%", "", "nan", "13.5 %", "101"]),
    mostly(["", "NA", "1", "50000.25", "-0.5", "1e5", "007", "1e00002"], [" ", "na", "NaN", "1e309", "-2", " 1", "1 ", "1_0", "+1"]),
    mostly(["18", "40.", "90", "0", "120", ".5"], ["+40", "", "NA", "121", "-1", "inf", "nan", "0x10", "4\t", "1e", "٣", "1e-99999"]),
    mostly(["36", " 36 months", "60"], ["36 months", "", "48"]),
    st.sampled_from(["OWN", "ÖWN", "", "RENT"]),
    mostly(["yes", "no"], ["", "Yes", "no "]),
)


def quoted(cell: str, *, always: bool) -> str:
    return '"' + cell.replace('"', '""') + '"' if always or any(sign in cell for sign in ',"\n\r') else cell


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    always, end = draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n"]))
    rows = [list(draw(st.tuples(*CELLS))) for _ in range(draw(st.integers(0, 8)))]
    lines = [",".join(quoted(cell, always=always) for cell in row) for row in [HEADER, *rows]]
    if draw(st.integers(0, 9)) == 0:  # something no table should hold
        odd = draw(st.sampled_from(['a"b,1,2,3,36,OWN,no', "x", "", "x\0,1,2,3,36,OWN,no", '"x"y,1,2,3,36,OWN,no', "a,b\rc,1,2,3", '"']))
        lines.insert(draw(st.integers(1, len(lines))), odd)
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


@given(data=tables(), chunk=st.integers(1, 400), piece=st.integers(1, 300), threads=st.integers(1, 3))
@settings(deadline=None, max_examples=400)
def test_statistics_of__any_csv_however_cut__equals_the_strict_reader(data: bytes, chunk: int, piece: int, threads: int) -> None:
    fast = outcome(statistics_of, cut(data, chunk), SPECIFICATION, threads=threads, piece_bytes=piece)

    assert fast == outcome(strictly, data)


@given(text=st.text(alphabet='a1.,"\n\r\0 eE-+ö%', max_size=60), piece=st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_statistics_of__arbitrary_text__is_taken_or_refused_as_the_strict_reader_does(text: str, piece: int) -> None:
    simple = FeatureSpecification((Numeric("a", -9 * B, 9 * B, -9 * B, 9 * B, 0, B),), Label("y", ("1",), ("0", "a")))
    data = ("a,y\n1,1\n" + text).encode()
    fast = outcome(statistics_of, [data], simple, piece_bytes=piece)

    assert fast == outcome(lambda: accumulate(read_batches(text_lines([data]), simple), 2))


@pytest.mark.parametrize("row", ["+5,1", '"+5",1', "5,+1", "1e+0,1", "5,1+"])
@pytest.mark.parametrize("before", ["", "1,0\n"])
def test_statistics_of__a_plus_before_a_number__is_refused_as_the_strict_reader_does(before: str, row: str) -> None:
    simple = FeatureSpecification((Numeric("a", -9 * B, 9 * B, -9 * B, 9 * B, 0, B),), Label("y", ("1",), ("0", "+1", "1+")))
    data = ("a,y\n" + before + row + "\n").encode()
    fast = outcome(statistics_of, [data], simple)

    assert (fast is None) == ("+5" in row)
    assert fast == outcome(lambda: accumulate(read_batches(text_lines([data]), simple), 2))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("n,1,2,3,36,OWN", "row 5001 has 6 cells"),
        ("n,1,2,3,36,OWN,no,x", "row 5001 has 8 cells"),
        ("", "row 5001 has 0 cells"),
        ("n,1,2,x,36,OWN,no", "row 5001, column 'age': not a decimal number"),
        ("n,1,2,1e309,36,OWN,no", "row 5001, column 'age': outside the legal range"),
        ("n,1,2,,36,OWN,no", "row 5001, column 'age': the cell is empty"),
        ("n,1,2,3,36,OWN,", "row 5001, column 'bad': the cell is empty"),
        ('n,1,2,3,"36"x,OWN,no', "row 5001"),
        ("n,1,2,3,36,OWN\0,no", "row 5001 holds a NUL"),
        ("n" * 200_000 + ",1,2,3,36,OWN,no", "field larger"),
    ],
)
def test_statistics_of__one_bad_row_far_down__is_named(row: str, says: str) -> None:
    good = "n,1,2,3,36,OWN,no\n"
    data = (",".join(HEADER) + "\n" + good * 5000 + row + "\n" + good * 5000).encode()

    with pytest.raises(Malformed, match=says):
        statistics_of(cut(data, 10_000), SPECIFICATION, threads=2, piece_bytes=20_000)


def test_statistics_of__a_line_without_end__is_refused_before_it_is_held() -> None:
    taken = 0

    def endless() -> Iterable[bytes]:
        nonlocal taken
        yield (",".join(HEADER) + "\n").encode()
        while True:
            taken += 1
            yield b"x" * (1 << 20)

    with pytest.raises(RowsRefused, match="longer than"):
        statistics_of(endless(), SPECIFICATION)
    assert taken < 20


def test_statistics_of__clipped_rows__are_clipped_before_they_are_summed() -> None:
    data = (",".join(HEADER) + "\nn,1,2,30,36,OWN,no\nn,99,NA,3,60,RENT,yes\n").encode()

    def halves(features: IntMatrix) -> IntMatrix:
        return features // 2

    blocks = [(halves(x), y) for x, y in read_batches(text_lines([data]), SPECIFICATION)]
    assert statistics_of([data], SPECIFICATION, clip=halves) == accumulate(blocks, SPECIFICATION.dimension)


def test_statistics_of__hard_numbers__equal_fractions() -> None:
    """The largest entries there may be, alternating in sign, beside the smallest: floating-point sums would lose the small ones."""
    f = 24
    wide = Numeric("wide", -4 * B, 4 * B, -4 * B, 4 * B, 0, B)
    tiny = Numeric("tiny", -B, B, -B, B, 0, B)
    specification = FeatureSpecification((wide, tiny), Label("y", ("1",), ("0",)), f)
    cells = [("4" if row % 2 else "-4", f"{(row % 7 - 3) * 2.0**-f:.30f}", str(row % 3 % 2)) for row in range(20_001)]
    data = "wide,tiny,y\n" + "".join(",".join(row) + "\n" for row in cells)

    found = statistics_of(cut(data.encode(), 50_000), specification, threads=2, piece_bytes=100_000)

    rows = [(1, Fraction(Decimal(a)), Fraction(Decimal(b)), 2 * int(y) - 1) for a, b, y in cells]
    for i in range(3):
        for j in range(3):
            assert Fraction(found.gram[i][j], 4**f) == sum((row[i] * row[j] for row in rows), Fraction(0))
        assert Fraction(found.moment[i], 2**f) == sum((row[i] * row[3] for row in rows), Fraction(0))


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def loans(rows: int) -> pa.Table:
    generator = np.random.default_rng(3)
    return pa.table(
        {
            "note": pa.array([[1, 2]] * rows, pa.list_(pa.int64())),
            "rate": pa.array([f"{rate:.2f}%" for rate in generator.uniform(0, 40, rows)]),
            "income": pa.array([None if row % 5 == 0 else 1000 * row for row in range(rows)], pa.int64()),
            "age": pa.array(generator.uniform(18, 90, rows).astype(np.float32)),
            "term": pa.array([36 if row % 3 else 60 for row in range(rows)], pa.int8()),
            "home": pa.array(["OWN" if row % 2 else None for row in range(rows)]).dictionary_encode(),
            "bad": pa.array(["yes" if row % 4 == 0 else "no" for row in range(rows)]),
        }
    )


@pytest.mark.parametrize("options", [{}, {"row_group_size": 100, "compression": "zstd"}, {"use_dictionary": False, "version": "1.0"}])
def test_statistics_of__parquet__equals_the_same_cells_as_csv(options: dict[str, Any]) -> None:
    table = loans(1000)
    data = parquet(table, **options)
    columns: dict[str, list[str]] = {name: [] for name in SPECIFICATION.columns}
    for batch in read_table(chunks_of(data), SPECIFICATION.columns):
        for name, cells in batch.columns.items():
            columns[name] += cells

    found = statistics_of(chunks_of(data), SPECIFICATION, threads=2, batch_rows=64)

    assert columns["income"][:2] == ["", "1000"]
    assert columns["home"][:2] == ["", "OWN"]
    assert columns["term"][:2] == ["60", "36"]
    assert found == accumulate([SPECIFICATION.matrix(columns)], SPECIFICATION.dimension)


@given(chunk=st.integers(1, 5000), group=st.integers(20, 300), batch=st.integers(7, 200), dictionary=st.sampled_from([1, 1 << 20]))
@settings(deadline=None, max_examples=40)
def test_statistics_of__parquet_however_cut__is_the_same(chunk: int, group: int, batch: int, dictionary: int) -> None:
    """Wherever a stretch of the file is cut, and where text is kept by its numbers: in one dictionary, in several, or in none."""
    rows = 400
    home = pa.array([f"street {row}" if row % 7 == 0 else ("OWN" if row % 2 else None) for row in range(rows)])
    table = loans(rows)
    table = table.set_column(table.column_names.index("home"), "home", home)
    data = parquet(table, row_group_size=group, dictionary_pagesize_limit=dictionary)
    expected = statistics_of(chunks_of(parquet(table, use_dictionary=False)), SPECIFICATION)

    found = statistics_of(cut(b"".join(chunks_of(data)), chunk), SPECIFICATION, threads=2, batch_rows=batch)

    assert found == expected


def test_statistics_of__csv_with_an_empty_number__is_refused_where_no_column_declares_missing_values() -> None:
    simple = FeatureSpecification((AGE,), Label("bad", ("yes",), ("no",)))

    with pytest.raises(Malformed, match="row 2, column 'age': the cell is empty"):
        statistics_of([b"age,bad\n20,yes\n,no\n30,no\n"], simple)


@pytest.mark.parametrize(
    ("name", "column", "says"),
    [
        ("age", pa.array([20.0, None, 30.0]), "row 2, column 'age': the cell is empty"),
        ("age", pa.array([20.0, math.nan, 30.0]), "row 2, column 'age': not a decimal number"),
        ("age", pa.array([20.0, 30.0, math.inf]), "row 3, column 'age'"),
        ("age", pa.array([True, False, True]), "row 1, column 'age': not a decimal number"),
        ("age", pa.array([[1], [2], [3]]), "column 'age': a column holds list"),
        ("age", pa.array([b"1", b"2", b"3"]), "column 'age': a column holds binary"),
        ("bad", pa.array(["yes", "no", "perhaps"]), "row 3, column 'bad'"),
        ("bad", pa.array(["yes", None, "no"]), "row 2, column 'bad': the cell is empty"),
    ],
)
def test_statistics_of__parquet_that_does_not_fit__is_refused_with_its_place(name: str, column: pa.Array, says: str) -> None:
    table = loans(3)
    table = table.set_column(table.column_names.index(name), name, column)

    with pytest.raises(Malformed, match=says):
        statistics_of(chunks_of(parquet(table)), SPECIFICATION)


def test_statistics_of__parquet_without_a_column__is_refused() -> None:
    with pytest.raises(Malformed, match="'home' is missing"):
        statistics_of(chunks_of(parquet(loans(3).drop_columns("home"))), SPECIFICATION)


def test_statistics_of__parquet_without_rows__is_refused() -> None:
    with pytest.raises(RowsRefused, match="no rows"):
        statistics_of(chunks_of(parquet(loans(3).slice(0, 0))), SPECIFICATION)


_SPOIL = """
import contextlib, os, sys
import numpy as np
from hessian.errors import Malformed
from hessian.learning.tables import chunks_of, read_table
whole = open(sys.argv[1], "rb").read()
for seed in range(int(sys.argv[2]), 200):
    print(seed, flush=True)
    draw = np.random.default_rng(seed)
    data = bytearray(whole)
    for _ in range(draw.integers(1, 4)):
        data[draw.integers(4, len(data))] = draw.integers(0, 256)
    if seed % 4 == 0:
        del data[draw.integers(4, len(data)):]
    with contextlib.suppress(Malformed):
        for _ in read_table(chunks_of(bytes(data))):
            pass
"""


def test_read_table__parquet_cut_or_changed__is_refused_or_read_or_breaks_only_its_process(tmp_path: Path) -> None:
    """Damage that breaks Arrow itself is why such files are decoded in a process of their own; nothing else may come out of it."""
    file = tmp_path / "loans.parquet"
    file.write_bytes(parquet(loans(50).drop_columns("note"), row_group_size=20))
    seed = 0
    while seed < 199:
        done = subprocess.run([sys.executable, "-c", _SPOIL, str(file), str(seed)], capture_output=True, text=True, check=False)
        seed = int(done.stdout.split()[-1])
        assert done.returncode <= 0, (seed, done.stderr)  # a signal ended it, or nothing did
        seed += 1


@pytest.mark.parametrize("length", [0, 1, 7, 12])
def test_statistics_of__parquet_frame_that_lies__is_refused(length: int) -> None:
    data = parquet(loans(5))
    end = data[-length_of_end(len(data), data[-8:]) :]
    for chunks in ([frame(len(data), end), data[: 100 + length]], [frame(len(data), b""), data], [frame(1, end), data]):
        with pytest.raises(RowsRefused):
            statistics_of(chunks, SPECIFICATION)


def test_format_of__known_files__are_told_apart_by_their_bytes() -> None:
    assert format_of(b"PAR1\x15\x04") is TableFormat.PARQUET
    assert format_of(b"a,b\n1,2\n") is TableFormat.CSV
    for magic, says in ((b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "zip"), (b"%PDF-1.7", "PDF"), (b"ARROW1\0\0", "Arrow")):
        with pytest.raises(RowsRefused, match=says):
            format_of(magic)


_MEASURE = """
import re, sys
from pathlib import Path
from hessian.learning.columns import Label, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.streaming import statistics_of
rows = int(sys.argv[1])
B = 10**9
features = tuple(Numeric(f"x{i}", 0, 10**6 * B, 0, 100 * B, 50 * B, 20 * B) for i in range(10))
def chunks():
    yield (",".join(f"x{i}" for i in range(10)) + ",y\\n").encode()
    for start in range(0, rows, 1000):
        yield b"12.5,13,14,15.25,1,2,3,4,5,6,a\\n1,2,3,4,5,6,7,8,9,10,b\\n" * 500
found = statistics_of(chunks(), FeatureSpecification(features, Label("y", ("a",), ("b",))), threads=2)
assert found.rows == rows
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])  # getrusage would count the parent's peak
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_statistics_of__ten_times_the_rows__needs_no_more_memory() -> None:
    def peak(rows: int) -> int:
        done = subprocess.run([sys.executable, "-c", _MEASURE, str(rows)], capture_output=True, text=True, check=True)
        return int(done.stdout)

    few, many = peak(200_000), peak(2_000_000)

    assert many - few < 96 * 1024  # KiB; the further rows alone are 48 MiB of text and 151 MiB of numbers
    assert many < 400 * 1024
