"""Lineages: datasets of one owner that share a row are versions of one another, however the file changed otherwise (PROTOCOL §4).

What was opened once stays opened: a lineage that took part in an unlock keeps its fingerprints when its datasets are deleted, or an upload
of the same rows would be taken for new ones. All others lose theirs with the dataset.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import ARRAY, LargeBinary, bindparam, delete, func, select, text, update

from hessian.postgres.session import Session
from owner_api.tables import Dataset, Release, RowFingerprint

_BATCH = 10_000
_FINGERPRINTS = bindparam("fingerprints", type_=ARRAY(LargeBinary))
_KNOWN = text(
    "select distinct datasets.lineage from row_fingerprints join datasets on datasets.id = row_fingerprints.dataset_id "
    "where datasets.owner_id = :owner and row_fingerprints.fingerprint = any(:fingerprints)"
).bindparams(_FINGERPRINTS)
_INSERT = text("insert into row_fingerprints (dataset_id, fingerprint) select :dataset, unnest(cast(:fingerprints as bytea[]))").bindparams(
    _FINGERPRINTS
)


async def lock_owner(session: Session, owner_id: uuid.UUID) -> None:
    """Until the transaction's end nobody else changes this owner's lineages, enrolments or releases."""
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"owner:{owner_id}", 0))))


async def lineage_of(session: Session, owner_id: uuid.UUID, fingerprints: Collection[bytes]) -> uuid.UUID:
    """The lineage that these rows belong to: new, or an earlier one; where they connect several, those become one.

    The caller holds `lock_owner`.
    """
    found: set[uuid.UUID] = set()
    for batch in _batches(fingerprints):
        found |= set((await session.execute(_KNOWN, {"owner": owner_id, "fingerprints": batch})).scalars())
    if not found:
        return uuid.uuid4()
    kept, *merged = sorted(found)
    for table in (Dataset, Release):
        await session.execute(update(table).where(table.lineage.in_(merged)).values(lineage=kept))
    return kept


async def remember(session: Session, dataset_id: uuid.UUID, fingerprints: Collection[bytes]) -> None:
    """Store a dataset's fingerprints."""
    for batch in _batches(fingerprints):
        await session.execute(_INSERT, {"dataset": dataset_id, "fingerprints": batch})


async def forget(session: Session, dataset: Dataset) -> None:
    """Erase a deleted dataset's fingerprints, unless rows of its lineage were released."""
    if not await released_cohorts(session, dataset.lineage):
        await session.execute(delete(RowFingerprint).where(RowFingerprint.dataset_id == dataset.id))


async def released_cohorts(session: Session, lineage: uuid.UUID) -> list[Release]:
    """The cohorts for which this node signed an unlock of rows of this lineage."""
    return list((await session.execute(select(Release).where(Release.lineage == lineage))).scalars())


def _batches(fingerprints: Collection[bytes]) -> Iterator[Sequence[bytes]]:
    ordered = sorted(fingerprints)
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]
