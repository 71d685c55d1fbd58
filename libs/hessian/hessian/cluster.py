"""Statistics of rows that outgrow one machine: the same partial sums, on a Dask cluster (the extra `dask`).

Statistics add up, so each partition is a table of its own with its own header, its sums are made where it lies, and only d × d integers
travel. Row numbers in a refusal count within the partition it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hessian.errors import Malformed
from hessian.learning.features import FeatureSpecification
from hessian.learning.statistics import SufficientStatistics, pooled
from hessian.learning.streaming import statistics_of
from hessian.learning.tables import chunks_of_file

if TYPE_CHECKING:
    from distributed import Client

_ADDED_AT_ONCE = 8


class PartitionRefused(Malformed):
    """A partition cannot be read as it stands."""


def statistics_on_cluster(
    client: Client, partitions: Sequence[str], specification: FeatureSpecification, *, threads: int = 1
) -> SufficientStatistics:
    """G and h of all partitions together: paths of CSV or Parquet files that every worker can open; `threads` for each.

    Raises PartitionRefused naming the file, the row and the column.
    """
    if not partitions:
        raise PartitionRefused("there is no partition: nothing to add up")
    plain = specification.to_plain()
    parts = client.map(_one, list(partitions), specification=plain, threads=threads, pure=False)
    while len(parts) > 1:  # a tree, so that no machine holds them all
        parts = [client.submit(pooled, parts[start : start + _ADDED_AT_ONCE], pure=False) for start in range(0, len(parts), _ADDED_AT_ONCE)]
    total: SufficientStatistics = parts[0].result()
    return total


def _one(path: str, *, specification: Mapping[str, object], threads: int) -> SufficientStatistics:
    """One partition's, on a worker."""
    try:
        with Path(path).open("rb") as file:
            return statistics_of(chunks_of_file(file), FeatureSpecification.from_plain(specification), threads=threads)
    except Malformed as refusal:
        raise PartitionRefused(f"{Path(path).name}: {refusal.sentence}") from refusal
    except OSError as error:
        raise PartitionRefused(f"{Path(path).name} cannot be read: {error.strerror}") from error
