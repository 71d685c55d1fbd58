"""The statistics job: a stream of CSV or Parquet into sufficient statistics, a piece at a time (PROTOCOL §3); with a model that requires
differential privacy, of clipped rows and under noise, so that exact ones never leave this process (PROTOCOL §5).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from functools import partial
from typing import Any, BinaryIO

from hessian.artifacts.manifest import ModelManifest
from hessian.learning import streaming
from hessian.learning.features import FeatureSpecification
from hessian.learning.statistics import SufficientStatistics
from hessian.privacy.clipping import clip_rows
from hessian.privacy.noise import noised

_CHUNK_BYTES = 1 << 20


def statistics_of(
    chunks: Iterable[bytes], specification: FeatureSpecification, *, clip_norm: int | None = None, threads: int = 1
) -> SufficientStatistics:
    """G and h of a table's rows, clipped where a norm is given. Raises RowsRefused, ColumnMissing, CellRefused: row and column are named,
    cells never."""
    clip = None if clip_norm is None else partial(clip_rows, clip_norm=clip_norm)
    return streaming.statistics_of(chunks, specification, threads=threads, clip=clip)


def released_statistics(chunks: Iterable[bytes], manifest: ModelManifest, *, threads: int = 1) -> SufficientStatistics:
    """What this model may know of the rows: exact, or clipped and noised as its manifest requires. A further call draws other noise."""
    if manifest.privacy is None:
        return statistics_of(chunks, manifest.specification, threads=threads)
    exact = statistics_of(chunks, manifest.specification, clip_norm=manifest.privacy.clip_norm, threads=threads)
    return noised(exact, manifest.privacy, manifest.specification.feature_bits)


def run(wanted: dict[str, Any], rows: BinaryIO) -> bytes:
    """The job: its header decoded, its rows still to be read. Returns JSON as `StatisticsRead` describes it."""
    manifest = ModelManifest.from_bytes(base64.b64decode(wanted["manifest"]), minimum_bits=wanted["minimum_key_bits"])
    chunks = iter(lambda: rows.read(_CHUNK_BYTES), b"")
    return json.dumps(released_statistics(chunks, manifest, threads=wanted["threads"]).to_plain()).encode()
