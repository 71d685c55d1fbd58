"""`/v1/validation-sets`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import select

from hessian.errors import Malformed, TooLarge
from hessian.learning.cells import CellRefused
from hessian.learning.columns import ColumnMissing
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.fitting import FitRefused
from hessian.learning.formats import LONGEST_MAGIC, TableFormat, format_of
from hessian.learning.proposal import MOST_ENTRIES, NothingToLearn
from hessian.learning.rows import RowsRefused
from hessian.service.edge import StrictJsonRoute
from hessian.service.fields import Page, PageLimit, next_cursor, page_after
from hessian.service.problems import refusals
from hessian.service.tokens import requires
from hessian.service.transaction import Transaction
from hessian.uploads import DecoderUnavailable, UploadsBusy, UploadUnreadable
from lender_api.models.outlines import ProposalRead
from lender_api.tables import ValidationSet
from lender_api.validation_sets import service
from lender_api.validation_sets.schemas import ValidationSetRead
from lender_api.validation_sets.service import ValidationSetUnknown
from lender_api.world import TheWorld

LARGEST_TABLE = 64 * 2**20
router = APIRouter(
    prefix="/validation-sets", tags=["validation-sets"], route_class=StrictJsonRoute, dependencies=[Depends(requires("admin"))]
)


class NotATable(Malformed):
    """The body is not declared as CSV or Parquet, or is something else than declared."""


Name = Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    max_body_size=LARGEST_TABLE,
    response_model=ValidationSetRead,
    responses=refusals(
        RowsRefused, ColumnMissing, CellRefused, FitRefused, NotATable, UploadUnreadable, TooLarge, DecoderUnavailable, UploadsBusy
    ),
    summary="Upload validation rows",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "CSV in UTF-8 with a header line and as many cells in every row, or Parquet; at most 64 MiB",
            "content": {
                TableFormat.CSV.value: {
                    "schema": {"type": "string"},
                    "example": "funded_amnt,term,Class\n16100,term_36,good\n32000,term_60,bad\n",
                },
                TableFormat.PARQUET.value: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def create(
    request: Request,
    session: Transaction,
    world: TheWorld,
    name: Name,
    label: Annotated[Name, Query(description="The label's column")],
    positive: Annotated[Name, Query(description="The label's value that means y = 1; every other value means 0")],
) -> ValidationSet:
    """Check a table and keep it sealed. A refusal names the row and the column, and nothing is stored."""
    declared = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if declared not in ("", *TableFormat):
        raise NotATable(f"send the rows as {TableFormat.CSV} or {TableFormat.PARQUET}, not {declared[:60]}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotATable("send the rows uncompressed")
    with world.uploads.place():
        data = b"".join([chunk async for chunk in request.stream()])
        if declared not in ("", found := format_of(data[:LONGEST_MAGIC])):
            raise NotATable(f"the body is declared as {declared} but is {found}")
        return await service.create(session, world, name=name, label=label, positive=positive, data=data)


@router.get("", response_model=Page[ValidationSetRead], summary="List validation sets")
async def index(session: Transaction, after: Annotated[int, Depends(page_after)], limit: PageLimit = 50) -> Page[ValidationSetRead]:
    """In the order of upload."""
    query = select(ValidationSet).where(ValidationSet.number > after).order_by(ValidationSet.number).limit(limit + 1)
    rows = list((await session.execute(query)).scalars())
    cursor = next_cursor(rows[limit - 1].number) if len(rows) > limit else None
    return Page(items=[ValidationSetRead.model_validate(row) for row in rows[:limit]], next=cursor)


@router.get(
    "/{id}/outline",
    responses=refusals(ValidationSetUnknown, NothingToLearn),
    summary="Propose features",
)
async def outline(
    session: Transaction,
    world: TheWorld,
    id: UUID,  # the path's own word
    most_entries: Annotated[
        int, Query(ge=2, le=LARGEST_DIMENSION, description="Entries the model may have, the intercept included")
    ] = MOST_ENTRIES,
) -> ProposalRead:
    """Which columns could be learned from, how, and why the others not: decided on these rows alone, for you to judge and to edit."""
    return await service.outline(session, world, await service.get(session, id), most_entries=most_entries)


@router.get("/{id}", response_model=ValidationSetRead, responses=refusals(ValidationSetUnknown), summary="Look at a validation set")
async def show(session: Transaction, id: UUID) -> ValidationSet:  # the path's own word
    """What is known of it, without its rows."""
    return await service.get(session, id)
