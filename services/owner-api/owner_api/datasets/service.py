"""Receiving, listing and deleting datasets."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from functools import partial

import structlog
from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError
from starlette.requests import ClientDisconnect

from hessian.errors import Conflict, DatabaseUnavailable, Malformed, NotFound, Refused
from hessian.identifiers import DIGEST_BYTES, Digest
from hessian.learning.formats import LONGEST_MAGIC, TableFormat, format_of
from hessian.postgres.engine import Database
from hessian.postgres.session import Session
from hessian.uploads import as_csv
from owner_api.datasets import lineage
from owner_api.datasets.fingerprints import FingerprintFile
from owner_api.datasets.storage import DatasetStorage, Incoming
from owner_api.datasets.validation import DatasetTooLarge, Summary, validate
from owner_api.releases import erase_noise
from owner_api.states import EnrollmentState
from owner_api.tables import Dataset, Enrollment, Owner
from owner_api.world import World

log = structlog.get_logger()
FINGERPRINT_PURPOSE = "row fingerprints"
_ACTIVE = [state for state in EnrollmentState if state.is_active]


class DatasetNotFound(NotFound):
    """There is no such dataset of this owner."""


class DatasetAlreadyUploaded(Conflict):
    """This owner has a dataset with the same bytes and label already."""


class DatasetInUse(Conflict):
    """An enrolment of this dataset is active: leave its cohort first."""


class OtherFormat(Malformed):
    """The body is not what its content type says."""


class UploadCutOff(Malformed):
    """The upload ended before its end; nothing of it was kept."""


async def receive(
    world: World,
    owner: Owner,
    name: str,
    label: str,
    positive_value: str,
    body: AsyncIterator[bytes],
    declared: TableFormat | None = None,
    *,
    version_of: uuid.UUID | None = None,
) -> Dataset:
    """Take an upload whole or not at all: encrypted as it arrives, validated, then made visible.

    `declared` is what the sender calls it. `version_of` names a dataset of this owner, deleted ones included, whose rows these are,
    whatever became of them. Raises UploadsBusy, UploadCutOff, OtherFormat, what `as_csv` and `validate` raise, DatasetAlreadyUploaded,
    DatasetNotFound, LineagesInUse.
    """
    dataset = Dataset(id=uuid.uuid4(), owner_id=owner.id, name=name, label=label, positive_value=positive_value, lineage=uuid.uuid4())
    world.uploads.require_one()
    async with AsyncExitStack() as stack:
        fingerprints = FingerprintFile(stack.enter_context(closing(world.datasets.scratch())))
        async with world.datasets.receive(dataset.id) as incoming:
            dataset.size, dataset.digest = await _store(incoming, body, declared, world.settings.dataset_bytes)
            stack.enter_context(world.uploads.place())
            await stack.enter_async_context(world.uploads.turn())
            summary = await world.uploads.run(partial(_validate, world, dataset, incoming, fingerprints))
            dataset.rows, dataset.column_names = summary.rows, summary.columns
            await asyncio.to_thread(incoming.publish)
        dataset = await _insert_or_remove(world, dataset, fingerprints, version_of)
    log.info("dataset_received", dataset_id=str(dataset.id), rows=dataset.rows, bytes=dataset.size)
    return dataset


def _validate(world: World, dataset: Dataset, incoming: Incoming, fingerprints: FingerprintFile) -> Summary:
    with closing(as_csv(incoming.read(), largest=world.settings.dataset_decoded_bytes)) as chunks:
        return validate(
            chunks,
            label=dataset.label,
            positive_value=dataset.positive_value,
            limits=world.settings,
            fingerprint_key=world.vault.derive(FINGERPRINT_PURPOSE),
            keep=fingerprints.add,
        )


async def _store(incoming: Incoming, body: AsyncIterator[bytes], declared: TableFormat | None, most: int) -> tuple[int, Digest]:
    """Size and digest of what came. Raises UploadCutOff, DatasetTooLarge, RowsRefused, OtherFormat."""
    hasher, size, first = hashlib.sha256(), 0, b""
    try:
        async for chunk in body:
            if len(first) < LONGEST_MAGIC:
                first += chunk[:LONGEST_MAGIC]
                _require(declared, first)
            hasher.update(chunk)
            size += len(chunk)
            if size > most:
                raise DatasetTooLarge(f"a dataset may have at most {most} bytes")
            await asyncio.to_thread(incoming.write, chunk)
    except ClientDisconnect as error:
        raise UploadCutOff from error
    await asyncio.to_thread(incoming.finish)
    return size, Digest(hasher.digest())


def _require(declared: TableFormat | None, first: bytes) -> None:
    """As soon as the first bytes are there. Raises RowsRefused, OtherFormat."""
    if len(first) >= LONGEST_MAGIC and declared not in (None, found := format_of(first)):
        raise OtherFormat(f"the body is declared as {declared} but is {found}")


async def _insert_or_remove(world: World, dataset: Dataset, fingerprints: FingerprintFile, version_of: uuid.UUID | None) -> Dataset:
    """Give a published file its row. A commit whose answer was lost may have been done: the file goes only when there is no row, and what
    cannot be known now is swept at the next start."""
    try:
        await _insert(world.database, dataset, fingerprints, version_of)
    except Refused:
        await world.datasets.delete(dataset.id)
        raise
    except DatabaseUnavailable:
        async with world.database.begin() as session:
            await lineage.lock_owner(session, dataset.owner_id)  # the lost transaction holds it for as long as it may still commit
            kept = await session.get(Dataset, dataset.id)
        if kept is None:
            await world.datasets.delete(dataset.id)
            raise
        return kept
    return dataset


async def _insert(database: Database, dataset: Dataset, fingerprints: FingerprintFile, version_of: uuid.UUID | None) -> None:
    """One transaction. What takes long, the rows' fingerprints, comes before the owner's lock, and nobody sees it before the end."""
    try:
        async with database.begin() as session:
            session.add(dataset)
            await session.flush()
            await lineage.remember(session, dataset.id, fingerprints)
            await lineage.lock_owner(session, dataset.owner_id)
            known = await _lineage_of_version(session, dataset.owner_id, version_of) if version_of else None
            dataset.lineage = await lineage.lineage_of(session, dataset, known)
            await session.flush()
            await session.refresh(dataset)
    except IntegrityError as error:
        raise DatasetAlreadyUploaded from error


async def _lineage_of_version(session: Session, owner_id: uuid.UUID, dataset_id: uuid.UUID) -> uuid.UUID:
    wanted = select(Dataset.lineage).where(Dataset.id == dataset_id, Dataset.owner_id == owner_id)
    found = (await session.execute(wanted)).scalar_one_or_none()
    if found is None:
        raise DatasetNotFound
    return found


async def find(session: Session, owner: Owner, dataset_id: uuid.UUID, *, lock: bool = False) -> Dataset:
    """A dataset of this owner that was not deleted. Raises DatasetNotFound."""
    wanted = select(Dataset).where(Dataset.id == dataset_id, Dataset.owner_id == owner.id, Dataset.deleted_at.is_(None))
    dataset = (await session.execute(wanted.with_for_update() if lock else wanted)).scalar_one_or_none()
    if dataset is None:
        raise DatasetNotFound
    return dataset


async def delete(world: World, owner: Owner, dataset_id: uuid.UUID) -> None:
    """Remove a dataset: its row's content and fingerprints in one transaction, then its file. Raises DatasetNotFound, DatasetInUse."""
    async with world.database.begin() as session:
        await lineage.lock_owner(session, owner.id)
        dataset = await find(session, owner, dataset_id, lock=True)
        if (await session.execute(select(exists().where(Enrollment.dataset_id == dataset.id, Enrollment.state.in_(_ACTIVE))))).scalar_one():
            raise DatasetInUse
        dataset.deleted_at = datetime.now(UTC)
        dataset.name, dataset.column_names, dataset.label, dataset.positive_value = "", [], "", ""
        dataset.digest = Digest(bytes(DIGEST_BYTES))  # a hash without a key would answer guesses about the file
        await lineage.forget(session, dataset)
        await erase_noise(session, dataset.id)
    await world.datasets.delete(dataset_id)
    log.info("dataset_deleted", dataset_id=str(dataset_id))


async def sweep(database: Database, storage: DatasetStorage) -> None:
    """At start: remove the files of uploads and deletions that a kill cut short."""
    async with database.begin() as session:
        known = set((await session.execute(select(Dataset.id).where(Dataset.deleted_at.is_(None)))).scalars())
    removed = await asyncio.to_thread(storage.sweep, known)
    if removed:
        log.info("leftover_files_removed", files=removed)
