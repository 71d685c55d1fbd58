"""Parquet as CSV through the confined process: the same table, refusals as sentences, and a process that breaks breaks nothing else."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hessian import uploads
from hessian.errors import KeyLost
from hessian.learning.formats import framed
from hessian.uploads import UploadUnreadable, as_csv

TABLE = pa.table({"name": ["a,b", None, 'say "hi"'], "amount": [1, None, 3], "rate": [0.5, 2.0, None], "bad": [True, False, True]})
CSV = b'name,amount,rate,bad\n"a,b",1,0.5,true\n,,2,false\n"say ""hi""",3,,true\n'


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def stream(data: bytes) -> Iterator[bytes]:
    yield framed(data)
    yield from (data[start : start + 100] for start in range(0, len(data), 100))


def test_as_csv__of_parquet__is_the_same_table() -> None:
    assert b"".join(as_csv(stream(parquet(TABLE)))) == CSV


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
    part.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
