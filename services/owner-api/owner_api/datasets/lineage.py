"""Lineages: datasets of one owner that share a row are versions of one another, however the file changed otherwise (PROTOCOL §4).

Rows are matched by their fingerprints (`datasets.fingerprints`), within one owner on one node. A row with one more column, or with values
that were computed anew, has others: then the owner says of which dataset it is a version.

What was opened once stays opened: a lineage that took part in an unlock keeps its fingerprints when its datasets are deleted, or an upload
of the same rows would be taken for new ones. All others lose theirs with the dataset.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection

from sqlalchemy import ARRAY, LargeBinary, bindparam, delete, func, select, text, update

from hessian.errors import Conflict
from hessian.postgres.session import Session
from owner_api.datasets.fingerprints import FingerprintFile
from owner_api.states import EnrollmentState
from owner_api.tables import Dataset, Enrollment, Release, RowFingerprint

_ACTIVE = [state for state in EnrollmentState if state.is_active]
_KNOWN = text(
    "select distinct datasets.lineage from datasets where datasets.owner_id = :owner and datasets.id <> :dataset and exists "
    "(select from row_fingerprints known join row_fingerprints made on made.fingerprint = known.fingerprint "
    "where known.dataset_id = datasets.id and made.dataset_id = :dataset)"
)
_INSERT = text(
    "insert into row_fingerprints (dataset_id, fingerprint) select :dataset, unnest(cast(:fingerprints as bytea[])) on conflict do nothing"
).bindparams(bindparam("fingerprints", type_=ARRAY(LargeBinary)))


class LineagesInUse(Conflict):
    """Two datasets that this one connects are in use apart: one of them is enrolled, the other is too, or rows of it were opened."""


async def lock_owner(session: Session, owner_id: uuid.UUID) -> None:
    """Until the transaction's end nobody else changes this owner's lineages, enrolments or releases."""
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"owner:{owner_id}", 0))))


async def lineage_of(session: Session, dataset: Dataset, known: uuid.UUID | None = None) -> uuid.UUID:
    """The lineage that a dataset belongs to by its fingerprints: its own, or an earlier one, `known` among them. Where it connects several,
    they become one. The caller holds `lock_owner`. Raises LineagesInUse."""
    found = {known} if known else set[uuid.UUID]()
    found |= set((await session.execute(_KNOWN, {"owner": dataset.owner_id, "dataset": dataset.id})).scalars())
    if not found:
        return dataset.lineage
    await _require_not_in_use(session, found)
    kept, *merged = sorted(found)
    for table in (Dataset, Release):
        await session.execute(update(table).where(table.lineage.in_(merged)).values(lineage=kept))
    return kept


async def _require_not_in_use(session: Session, merging: Collection[uuid.UUID]) -> None:
    """One cohort per lineage: to make one of two that take part in two would forbid an unlock, and cost the bond behind it."""
    enrolled = select(Dataset.lineage).join(Enrollment, Enrollment.dataset_id == Dataset.id).where(Enrollment.state.in_(_ACTIVE))
    active = set((await session.execute(enrolled.where(Dataset.lineage.in_(merging)))).scalars())
    released = set((await session.execute(select(Release.lineage).where(Release.lineage.in_(merging)))).scalars())
    if active and len(active | released) > 1:
        raise LineagesInUse


async def remember(session: Session, dataset_id: uuid.UUID, fingerprints: FingerprintFile) -> None:
    """Store a dataset's fingerprints, a batch at a time."""
    batches = fingerprints.batches()
    while batch := await asyncio.to_thread(next, batches, None):
        await session.execute(_INSERT, {"dataset": dataset_id, "fingerprints": batch})


async def forget(session: Session, dataset: Dataset) -> None:
    """Erase a deleted dataset's fingerprints, unless rows of its lineage were released."""
    if not await released_cohorts(session, dataset.lineage):
        await session.execute(delete(RowFingerprint).where(RowFingerprint.dataset_id == dataset.id))


async def released_cohorts(session: Session, lineage: uuid.UUID) -> list[Release]:
    """The cohorts for which this node signed an unlock of rows of this lineage."""
    return list((await session.execute(select(Release).where(Release.lineage == lineage))).scalars())
