"""Partial sums on a local Dask cluster: the same integers as in one place, and refusals that name the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from small_model import Rows, specification

from hessian.cluster import PartitionRefused, statistics_on_cluster
from hessian.learning.statistics import pooled
from hessian.learning.streaming import statistics_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own, about this machine's limits
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
            Client(local) as client,
        ):
            yield client


def test_statistics_on_cluster__partitions_of_both_forms__equal_one_place(cluster: Client, tmp_path: Path) -> None:
    parts = [Rows(seed, 50 + seed) for seed in range(11)]
    files = []
    for seed, rows in enumerate(parts):
        file = tmp_path / f"part-{seed}"
        file.write_bytes(rows.parquet() if seed % 2 else rows.csv())
        files.append(str(file))

    found = statistics_on_cluster(cluster, files, specification())

    assert found == pooled([statistics_of([rows.csv()], specification()) for rows in parts])


def test_statistics_on_cluster__a_bad_cell__is_named_by_file_row_and_column(cluster: Client, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_bytes(Rows(1, 20).csv())
    bad.write_bytes(Rows(2, 20).csv() + b"-5,30,N,bad\n")

    with pytest.raises(PartitionRefused, match=r"bad\.csv: row 21, column 'income'"):
        statistics_on_cluster(cluster, [str(good), str(bad)], specification())
    with pytest.raises(PartitionRefused, match=r"nowhere\.csv cannot be read"):
        statistics_on_cluster(cluster, [str(tmp_path / "nowhere.csv")], specification())


def test_statistics_on_cluster__nothing_to_add__is_refused(cluster: Client) -> None:
    with pytest.raises(PartitionRefused, match="no partition"):
        statistics_on_cluster(cluster, [], specification())
