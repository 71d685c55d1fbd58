"""One contestant of the statistics table, in a process of its own: `python -m benchmarks.statistics_contestants <name> <file>`.

Each reads the whole file and computes XᵀX of its numeric columns: this project in exact integers, with everything the specification asks
for (types, ranges, clips, scaling, label); the others in floating point, and nothing else. Prints seconds and peak memory as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 41
LABEL = "Class"
_BATCH = 1 << 16


def hessian(file: str) -> int:
    """This project, as the trainer's job runs it."""
    from hessian.learning.columns import Label, Numeric
    from hessian.learning.features import FeatureSpecification
    from hessian.learning.plain import BILLION
    from hessian.learning.streaming import statistics_of
    from hessian.learning.tables import chunks_of_file

    unit = BILLION
    rates = Numeric("", -1000 * unit, 1000 * unit, -10 * unit, 110 * unit, 50 * unit, 20 * unit)
    amounts = Numeric("", 0, 10**7 * unit, 0, 200_000 * unit, 40_000 * unit, 28_000 * unit)
    features = [(rates if place % 2 else amounts, f"x{place}") for place in range(COLUMNS)]
    named = tuple(Numeric(name, *[getattr(kind, field) for field in _FIELDS]) for kind, name in features)
    specification = FeatureSpecification(named, Label(LABEL, ("bad",), ("good",)))
    with Path(file).open("rb") as opened:
        return statistics_of(chunks_of_file(opened), specification, threads=os.cpu_count() or 1).rows


_FIELDS = ("minimum", "maximum", "clip_low", "clip_high", "mean", "scale")


def polars(file: str) -> int:
    """polars' streaming engine into one array, then numpy."""
    import polars as pl

    frame = (pl.scan_parquet(file) if file.endswith("parquet") else pl.scan_csv(file)).select(pl.exclude(LABEL))
    x = frame.collect(engine="streaming").to_numpy()
    return int((x.T @ x).shape[0] and len(x))


def duckdb(file: str) -> int:
    """DuckDB into Arrow batches, then numpy."""
    import duckdb as db

    query = f"select * exclude({LABEL}) from {'read_parquet' if file.endswith('parquet') else 'read_csv'}('{file}')"
    return _summed(db.connect().execute(query).to_arrow_reader(_BATCH))


def pyarrow(file: str) -> int:
    """pyarrow's dataset scanner, then numpy."""
    import pyarrow.dataset as ds

    table = ds.dataset(file, format="parquet" if file.endswith("parquet") else "csv")
    return _summed(table.scanner(columns=[name for name in table.schema.names if name != LABEL], batch_size=_BATCH).to_batches())


def _summed(batches: Any) -> int:
    rows, total = 0, np.zeros((COLUMNS, COLUMNS))
    for batch in batches:
        x = np.column_stack([column.to_numpy(zero_copy_only=False) for column in batch.columns]).astype(np.float64, copy=False)
        total += x.T @ x
        rows += len(x)
    return rows


CONTESTANTS: dict[str, Callable[[str], int]] = {"this project": hessian, "polars": polars, "DuckDB": duckdb, "pyarrow": pyarrow}


def main(arguments: list[str]) -> None:
    """Run one and print what it took."""
    name, file = arguments
    begun = time.perf_counter()
    rows = CONTESTANTS[name](file)
    seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}))


if __name__ == "__main__":
    main(sys.argv[1:])
