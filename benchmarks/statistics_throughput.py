"""Sufficient statistics beside polars, DuckDB and pyarrow on the same file: seconds, processor time, peak memory.

A table of `make bench`, and by itself `python -m benchmarks.statistics_throughput [--rows 10000000] [--folder DIR]`. The files are made
once and kept in the folder. Contestants that are not installed are left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.report import Row, SectionResult, markdown, write
from benchmarks.run import Run
from benchmarks.statistics_contestants import COLUMNS, CONTESTANTS, LABEL

ROWS = 1_000_000
REPEATS = 3
ROW_GROUP = 122_880  # what DuckDB writes by default; polars' is twice that
FOLDER = Path("build/bench/statistics")
_MODULES = {"polars": "polars", "DuckDB": "duckdb", "pyarrow": "pyarrow", "this project": "hessian"}
_MEGABYTE = 10**6
_TEXT = (
    "XᵀX of 41 numeric columns out of 42, from the same file, each contestant in a process of its own, medians. This project computes "
    "exact integers, with ranges checked, values clipped and scaled, and the label read; the others add up floating-point numbers as "
    "they are. `×` is beside the fastest of the others."
)


def statistics_throughput(run: Run) -> SectionResult:
    """The section of `make bench`."""
    return measured(ROWS if run.extent.repeats > REPEATS else ROWS // 5, FOLDER, REPEATS, run.say)


def measured(rows: int, folder: Path, repeats: int, say: Callable[[str], None] = print) -> SectionResult:
    """Both files, every contestant."""
    results: list[Row] = []
    for file in files(rows, folder):
        taken = {name: _median(name, file, repeats, say) for name in CONTESTANTS if find_spec(_MODULES[name])}
        others = [each for name, each in taken.items() if name != "this project"]
        fastest = {unit: min((each[unit] for each in others), default=float("nan")) for unit in ("seconds", "cpu")}
        for name, each in taken.items():
            results.append(
                {
                    "file": f"{file.suffix[1:]}, {file.stat().st_size / _MEGABYTE:.0f} MB",
                    "rows": rows,
                    "contestant": name,
                    "seconds": each["seconds"],
                    "processor seconds": each["cpu"],
                    "peak MB": each["peak"] / _MEGABYTE,
                    "× seconds": each["seconds"] / fastest["seconds"],
                    "× processor": each["cpu"] / fastest["cpu"],
                }
            )
    absent = [name for name in CONTESTANTS if not find_spec(_MODULES[name])]
    return SectionResult("Statistics of a stream", _TEXT + (f" Not installed here: {', '.join(absent)}." if absent else ""), results)


def _median(name: str, file: Path, repeats: int, say: Callable[[str], None]) -> dict[str, float]:
    """A fresh process each time: what one leaves in memory serves no other."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"} if name == "this project" else dict(os.environ)
    command = [sys.executable, "-m", "benchmarks.statistics_contestants", name, str(file)]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout) for _ in range(repeats)
    ]
    say(f"{file.name}: {name}")
    return {unit: statistics.median(float(each[unit]) for each in found) for unit in ("seconds", "cpu", "peak")}


def files(rows: int, folder: Path) -> list[Path]:
    """loans-<rows>.parquet and .csv: rates with two decimals, whole amounts, a label."""
    paths = [folder / f"loans-{rows}.{kind}" for kind in ("parquet", "csv")]
    if all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(1)
    schema = pa.schema([*((f"x{place}", pa.float64()) for place in range(COLUMNS)), (LABEL, pa.string())])
    unfinished = [path.with_suffix(path.suffix + ".part") for path in paths]
    plain = pa_csv.WriteOptions(quoting_style="none")
    with pq.ParquetWriter(unfinished[0], schema) as columnar, pa_csv.CSVWriter(unfinished[1], schema, write_options=plain) as text:
        for start in range(0, rows, ROW_GROUP):
            count = min(ROW_GROUP, rows - start)
            columns = [
                draw.normal(50, 20, count).round(2) if place % 2 else draw.gamma(2, 20_000, count).round() for place in range(COLUMNS)
            ]
            table = pa.table([*columns, np.where(draw.random(count) < 0.2, "bad", "good")], schema=schema)
            columnar.write_table(table)
            text.write_table(table)
    for part, path in zip(unfinished, paths, strict=True):
        part.rename(path)
    return paths


def main(arguments: list[str]) -> None:
    """This table alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    results = [measured(chosen.rows, chosen.folder, chosen.repeats)]
    command = f"python -m benchmarks.statistics_throughput --rows {chosen.rows}"
    write(results, chosen.folder, command)
    print(markdown(results, command))


if __name__ == "__main__":
    main(sys.argv[1:])
