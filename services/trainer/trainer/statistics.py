"""The statistics job: a stream of CSV into exact sufficient statistics, a batch of rows at a time (PROTOCOL §3)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from hessian.artifacts.manifest import ModelManifest
from hessian.learning.features import FeatureSpecification
from hessian.learning.rows import read_batches, text_lines
from hessian.learning.statistics import SufficientStatistics, accumulate

_CHUNK_BYTES = 1 << 16


def statistics_of(chunks: Iterable[bytes], specification: FeatureSpecification) -> SufficientStatistics:
    """G and h of a CSV's rows. Raises RowsRefused, ColumnMissing, CellRefused: row and column are named, cells never."""
    return accumulate(read_batches(text_lines(chunks), specification), specification.dimension)


def run(wanted: dict[str, Any], rows: BinaryIO) -> bytes:
    """The job: its header decoded, its rows still to be read. Returns JSON as `StatisticsRead` describes it."""
    manifest = ModelManifest.from_bytes(base64.b64decode(wanted["manifest"]), minimum_bits=wanted["minimum_key_bits"])
    chunks = iter(lambda: rows.read(_CHUNK_BYTES), b"")
    return json.dumps(statistics_of(chunks, manifest.specification).to_plain()).encode()
