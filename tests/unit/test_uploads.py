"""Parquet as CSV through the confined process: the same table, refusals as sentences, and a process that breaks breaks nothing else."""

from __future__ import annotations

import decimal
import io
import threading
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hessian import uploads
from hessian.errors import KeyLost
from hessian.learning.formats import framed
from hessian.learning.rows import BATCH_CHARACTERS, LONGEST_RECORD, read_columns, text_lines
from hessian.learning.tables import read_table
from hessian.uploads import DecodedTooLarge, DecoderUnavailable, UploadPlaces, UploadsBusy, UploadUnreadable, as_csv

TABLE = pa.table({"name": ["a,b", None, 'say "hi"'], "amount": [1, None, 3], "rate": [0.5, 2.0, None], "bad": [True, False, True]})
CSV = b'name,amount,rate,bad\n"a,b",1,0.5,true\n,,2,false\n"say ""hi""",3,,true\n'


KINDS: list[tuple[object, pa.DataType]] = [
    (3, pa.int64()), (3, pa.uint64()), (3, pa.float16()), (0.5, pa.float64()), (True, pa.bool_()), ("ü", pa.large_string()),
    (None, pa.null()), (decimal.Decimal("1.50"), pa.decimal128(9, 2)), (3, pa.date32()), (86_400_000, pa.date64()), (3, pa.time64("us")),
    (3, pa.duration("s")), (3, pa.timestamp("ms")), (3, pa.timestamp("us", "UTC")), (3, pa.timestamp("us", "+02:00")),
    (3, pa.timestamp("us", "Europe/Berlin")), (3, pa.timestamp("us", "America/Argentina/Ushuaia")),
    ("a", pa.dictionary(pa.int32(), pa.string())),
]  # fmt: skip


def parquet(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def bomb(rows: int, columns: int, characters: int) -> bytes:
    """A small file that is `rows` × `columns` × `characters` large: every cell is the same long text."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * characters]))
    names = [f"c{number}" for number in range(columns)]
    return parquet(pa.table({"bad": ["0", "1"] * (rows // 2), **dict.fromkeys(names, column)}), row_group_size=16, compression="zstd")


def stream(data: bytes) -> Iterator[bytes]:
    yield framed(data)
    yield from (data[start : start + 100] for start in range(0, len(data), 100))


def test_as_csv__of_parquet__is_the_same_table() -> None:
    assert b"".join(as_csv(stream(parquet(TABLE)))) == CSV


def test_as_csv__any_kind_of_column__is_read_though_no_file_can_be_opened_any_more() -> None:
    data = parquet(pa.table({str(kind): pa.array([None, value], kind) for value, kind in KINDS}))
    (expected,) = read_table([framed(data), data])
    (found,) = read_columns(text_lines(as_csv(stream(data))))
    assert found == expected
    assert found.columns["timestamp[us, tz=Europe/Berlin]"][1] == "1970-01-01 00:00:00.000003+00:00"


def test_as_csv__decodes_to_more_than_allowed__is_refused_before_it_is_held() -> None:
    data, taken = bomb(64, 8, 100_000), list[bytes]()
    assert len(data) < 100_000
    with pytest.raises(DecodedTooLarge, match="more than 2 MiB"):
        taken.extend(as_csv(stream(data), largest=2 << 20))
    assert sum(map(len, taken)) <= 2 << 20
    assert sum(map(len, as_csv(stream(data), largest=52 << 20))) > 51_000_000


def test_read_columns__long_cells__a_batch_is_bounded_by_characters() -> None:
    sizes = [
        sum(len(cell) for cells in batch.columns.values() for cell in cells)
        for batch in read_columns(text_lines(as_csv(stream(bomb(64, 8, 100_000)))))
    ]
    assert len(sizes) > 8
    assert max(sizes) <= BATCH_CHARACTERS + LONGEST_RECORD


def test_as_csv__kernel_takes_no_filter__is_unavailable_and_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, hessian.uploads as u\ndef refuse(): raise OSError(22, 'no filter')\nu.calls.narrow = refuse\n"
        "sys.exit(u.main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer))"
    )
    monkeypatch.setattr(uploads, "PROGRAM", ("-I", "-c", code))
    with pytest.raises(DecoderUnavailable, match="send CSV"):
        list(as_csv(stream(parquet(TABLE))))


@pytest.mark.parametrize(
    "waits",
    [
        "time.sleep(600)",
        "print('x' * (1 << 20), file=sys.stderr); time.sleep(600)",
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    ],
)
def test_as_csv__process_neither_writes_nor_ends__is_stopped_and_a_refusal(monkeypatch: pytest.MonkeyPatch, waits: str) -> None:
    monkeypatch.setattr(uploads, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(uploads, "PROGRAM", ("-I", "-c", f"import sys, threading, time\n{waits}"))
    with pytest.raises(UploadUnreadable, match="stop"):
        list(as_csv(stream(parquet(TABLE))))


async def test_place__all_are_taken__is_refused_before_a_body_and_free_again_after() -> None:
    places = UploadPlaces(at_once=1, waiting=1)
    with places.place():
        with places.place():
            async with places.turn():
                assert await places.run(lambda: 7) == 7
            with pytest.raises(UploadsBusy), places.place():
                pass
        places.require_one()


def test_as_csv__of_csv__is_itself() -> None:
    assert b"".join(as_csv([b"a", b",b\n1", b",2\n"])) == b"a,b\n1,2\n"
    assert b"".join(as_csv([])) == b""


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"a": [[1]], "b": ["x"]}), "column 'a': a column holds list"),
        (pa.table({"a": [b"x"], "b": ["x"]}), "neither numbers nor text"),
        (pa.table({" ": [1], "b": ["x"]}), "without a name"),
        (TABLE.slice(0, 0), "no rows"),
    ],
)
def test_as_csv__of_parquet_that_is_no_plain_table__is_refused_with_a_sentence(table: pa.Table, says: str) -> None:
    with pytest.raises(UploadUnreadable, match=says):
        list(as_csv(stream(parquet(table))))


def test_as_csv__of_parquet_cut_off__is_refused() -> None:
    data = parquet(TABLE)
    with pytest.raises(UploadUnreadable, match="cut off"):
        list(as_csv([framed(data), data[:200]]))


def test_as_csv__process_breaks__is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MEMORY_BYTES", 64 << 20)  # not even its imports fit
    with pytest.raises(UploadUnreadable, match="damaged, or larger"):
        list(as_csv(stream(parquet(TABLE))))


def test_as_csv__source_fails__passes_its_own_error_on() -> None:
    def broken() -> Iterator[bytes]:
        yield framed(parquet(TABLE))
        raise KeyLost("the file is gone")

    with pytest.raises(KeyLost):
        list(as_csv(broken()))


def test_as_csv__reader_stops_early__leaves_no_thread_and_no_process() -> None:
    before = threading.active_count()
    wide = pa.table({f"c{i}": list(range(20_000)) for i in range(20)})
    part = as_csv(stream(parquet(wide)))
    next(part)
    part.close()
    assert threading.active_count() == before
