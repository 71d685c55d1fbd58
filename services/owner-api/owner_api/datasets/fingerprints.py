"""Fingerprints of rows: keyed hashes by which this node recognises two versions of one dataset (PROTOCOL §4).

There are two for every row, and rows by the million, so they are never all in memory: they wait in a file until the database takes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import BinaryIO

import numpy as np

from hessian.learning.rows import Batch

FINGERPRINT_BYTES = 16
BATCH = 10_000
RUN = 1_000_000
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?", re.ASCII)
_PLAIN = re.compile(r"-?(?:[1-9](?:[0-9]*[1-9])?|(?:[1-9][0-9]*|0)\.[0-9]{0,5}[1-9])", re.ASCII)  # what Decimal would write just so
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


class FingerprintFile:
    """Fingerprints on their way to the database, in an open file that has no name: it is gone with its closing, or with this process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, fingerprints: Collection[bytes]) -> None:
        """Append."""
        self._file.write(b"".join(fingerprints))

    def batches(self) -> Iterator[list[bytes]]:
        """All of them, a batch at a time, none twice in a batch; sorted by the million, because an index takes neighbours faster."""
        self._file.seek(0)
        while data := self._file.read(RUN * FINGERPRINT_BYTES):
            run = np.sort(np.frombuffer(data, dtype=f"S{FINGERPRINT_BYTES}"))
            for start in range(0, len(run), BATCH):
                part = run[start : start + BATCH].tobytes()
                yield list(dict.fromkeys(part[place : place + FINGERPRINT_BYTES] for place in range(0, len(part), FINGERPRINT_BYTES)))


def fingerprints_of(batch: Batch, label: str, key: bytes) -> set[bytes]:
    """Two of each row. Without the label, by the columns' names: a version that moved columns or corrected labels is recognised. All cells,
    sorted, without any name: one that declares another label is, wherever columns went and whatever they are called."""
    names = sorted(name for name in batch.columns if name != label)
    features = hashlib.blake2b(b"".join(map(_framed, names)), key=key, digest_size=FINGERPRINT_BYTES, person=b"features")
    everything = hashlib.blake2b(key=key, digest_size=FINGERPRINT_BYTES, person=b"everything")
    columns = {name: _framed_cells(cells) for name, cells in batch.columns.items()}
    made = {_digest(features, row) for row in zip(*(columns[name] for name in names), strict=True)}
    return made | {_digest(everything, sorted(row)) for row in zip(*columns.values(), strict=True)}


def _digest(begun: hashlib.blake2b, cells: Iterable[bytes]) -> bytes:
    one = begun.copy()
    one.update(b"".join(cells))
    return one.digest()


def _framed_cells(cells: Sequence[str]) -> list[bytes]:
    known = {cell: _framed(canonical(cell)) for cell in set(cells)}
    return [known[cell] for cell in cells]


def canonical(cell: str) -> str:
    """Without what changes no value: surrounding blanks, and the way a number is written."""
    text = cell.strip()
    if _PLAIN.fullmatch(text) or not _NUMBER.fullmatch(text):
        return text
    number = Decimal(text)
    return str(number.normalize(_EXACT)) if number else "0"


def _framed(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(data), data)
