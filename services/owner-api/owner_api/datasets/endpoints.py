"""`/v1/datasets`: an owner's tables, CSV or Parquet, encrypted on this node's own disk."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from hessian.errors import Malformed
from hessian.learning.columns import ColumnMissing
from hessian.learning.formats import TableFormat
from hessian.learning.rows import RowsRefused
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import Page, PageLimit, page_after
from hessian.service.problems import refusals
from hessian.service.transaction import Transaction
from hessian.uploads import DecodedTooLarge, DecoderUnavailable, UploadsBusy, UploadUnreadable
from owner_api.auth import CallingOwner
from owner_api.datasets import service
from owner_api.datasets.lineage import LineagesInUse
from owner_api.datasets.schemas import DatasetRead
from owner_api.datasets.service import DatasetAlreadyUploaded, DatasetInUse, DatasetNotFound, OtherFormat, UploadCutOff
from owner_api.datasets.validation import DatasetRefused, DatasetTooLarge
from owner_api.paging import cut, rows_of
from owner_api.tables import Dataset
from owner_api.world import TheWorld

router = APIRouter(route_class=StrictJsonRoute, prefix="/datasets", tags=["datasets"])
LARGEST_UPLOAD = 1 << 40
"""Not the limit that counts: that one is a setting, and kept while the bytes arrive."""


class NotATable(Malformed):
    """The body is not declared as CSV or Parquet."""


_TEXT = r"^[^\x00-\x1f\x7f]+$"
_Text = Annotated[str, Query(min_length=1, max_length=200, pattern=_TEXT)]
_TABLE = {
    "requestBody": {
        "required": True,
        "description": "CSV with a header, UTF-8, or Parquet: the file's bytes "
        "(`curl -H 'Content-Type: text/csv' --data-binary @loans.csv`), not a form",
        "content": {
            TableFormat.CSV.value: {"schema": {"type": "string"}, "example": "income,Class\n4200,good\n1800,bad\n"},
            TableFormat.PARQUET.value: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Upload a dataset",
    openapi_extra=_TABLE,
    max_body_size=LARGEST_UPLOAD,
    responses=refusals(
        DatasetAlreadyUploaded,
        DatasetNotFound,
        LineagesInUse,
        NotATable,
        RowsRefused,
        OtherFormat,
        UploadUnreadable,
        ColumnMissing,
        DatasetRefused,
        DatasetTooLarge,
        UploadCutOff,
        DecodedTooLarge,
        DecoderUnavailable,
        UploadsBusy,
    ),
)
async def upload(
    request: Request,
    world: TheWorld,
    owner: CallingOwner,
    name: _Text,
    label: _Text,
    positive: _Text,
    version_of: Annotated[uuid.UUID | None, Query()] = None,
) -> DatasetRead:
    """The body is the CSV or Parquet file itself. `label` names the column with the outcome, `positive` its value for a loan that went bad.

    Rows that this owner uploaded before are recognised when columns moved, were renamed or another one is the label, not when columns were
    added or values changed: then name an earlier version in `version_of`. All versions together take part in one cohort.
    """
    kind = _declared(request)
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > world.settings.dataset_bytes:
        raise DatasetTooLarge(f"a dataset may have at most {world.settings.dataset_bytes} bytes")
    received = await service.receive(world, owner, name, label, positive, request.stream(), kind, version_of=version_of)
    return DatasetRead.model_validate(received)


def _declared(request: Request) -> TableFormat | None:
    """What the sender says the body is; None when nothing is said. Raises NotATable."""
    declared = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if declared not in ("", *TableFormat):
        raise NotATable(f"send the rows as {TableFormat.CSV} or {TableFormat.PARQUET}, not {declared[:60]}")
    return TableFormat(declared) if declared else None


@router.get("", summary="List datasets")
async def page(
    session: Transaction, owner: CallingOwner, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50
) -> Page[DatasetRead]:
    """The calling owner's datasets, oldest first."""
    rows = await rows_of(session, Dataset, owner.id, after, limit, Dataset.deleted_at.is_(None))
    return cut(rows, limit, DatasetRead.model_validate)


@router.get("/{dataset_id}", summary="Show a dataset", responses=refusals(DatasetNotFound))
async def read(session: Transaction, owner: CallingOwner, dataset_id: uuid.UUID) -> DatasetRead:
    """One dataset of the calling owner."""
    return DatasetRead.model_validate(await service.find(session, owner, dataset_id))


@router.delete(
    "/{dataset_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a dataset",
    responses=refusals(DatasetNotFound, DatasetInUse),
)
async def delete(world: TheWorld, owner: CallingOwner, dataset_id: uuid.UUID) -> None:
    """Delete the rows and everything that describes them. Refused while an enrolment of it is active.

    Of rows that were part of an opened sum the keyed fingerprints stay, on purpose: without them the same rows could be opened again.
    """
    await service.delete(world, owner, dataset_id)
