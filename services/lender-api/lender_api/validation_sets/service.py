"""Taking in validation rows: checked whole before anything is stored, sealed when stored."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

from sqlalchemy import select

from hessian.errors import NotFound
from hessian.identifiers import digest_of
from hessian.learning.columns import Label
from hessian.learning.proposal import propose
from hessian.postgres.session import Session
from lender_api.models.outlines import ProposalRead
from lender_api.tables import ValidationSet
from lender_api.validation_sets import csv_table
from lender_api.world import World


class ValidationSetUnknown(NotFound):
    """There is no such validation set."""


async def create(session: Session, world: World, *, name: str, label: str, positive: str, data: bytes) -> ValidationSet:
    """Check and store a table, as CSV whatever it came as. The caller has an upload's place. Raises what `csv_table` raises; then nothing
    is stored."""
    identity = uuid.uuid4()
    async with world.uploads.turn():
        csv = await world.uploads.run(partial(csv_table.of, data))
        summary = await world.uploads.run(partial(csv_table.check, csv, label=label, positive=positive))
        sealed = await world.uploads.run(partial(world.keys.seal_rows, identity, csv))
        del csv
    row = ValidationSet(
        id=identity,
        name=name,
        label=label,
        positive=positive,
        negatives=list(summary.negatives),
        rows=summary.rows,
        positives=summary.positives,
        columns=list(summary.columns),
        digest=digest_of(data),
        sealed_csv=sealed,
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row


async def get(session: Session, identity: uuid.UUID) -> ValidationSet:
    """Raises ValidationSetUnknown."""
    row = (await session.execute(select(ValidationSet).where(ValidationSet.id == identity))).scalar_one_or_none()
    if row is None:
        raise ValidationSetUnknown
    return row


async def cells(session: Session, world: World, row: ValidationSet, names: tuple[str, ...]) -> dict[str, list[str]]:
    """The cells of some columns. Raises ColumnMissing, KeyLost."""
    await session.refresh(row, ["sealed_csv"])
    data = await asyncio.to_thread(world.keys.open_rows, row)
    return await asyncio.to_thread(csv_table.cells_of, data, names)


async def outline(session: Session, world: World, row: ValidationSet, *, most_entries: int) -> ProposalRead:
    """Features these rows allow, and a reason for every column. Raises NothingToLearn, KeyLost."""
    columns = await cells(session, world, row, tuple(row.columns))
    label = Label(row.label, (row.positive,), tuple(row.negatives))
    proposal = await asyncio.to_thread(propose, columns, label, most_entries=most_entries)
    return ProposalRead.of(proposal.features, proposal.decisions)
