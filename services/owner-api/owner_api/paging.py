"""Cutting a list of rows into the page that was asked for. Rows carry `number`, their place in the order."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import select

from hessian.postgres.session import Session
from hessian.service.fields import Page, next_cursor

ReadT = TypeVar("ReadT")
RowT = TypeVar("RowT")


async def rows_of(session: Session, table: type[RowT], owner_id: uuid.UUID, after: int, limit: int, *conditions: Any) -> list[RowT]:
    """An owner's own rows of one table after a place, one more than `limit` where there are more."""
    kind: Any = table
    wanted = select(kind).where(kind.owner_id == owner_id, kind.number > after, *conditions).order_by(kind.number).limit(limit + 1)
    return list((await session.execute(wanted)).scalars())


def cut(rows: Sequence[Any], limit: int, read: Callable[[Any], ReadT]) -> Page[ReadT]:
    """The page of at most `limit` rows, and the cursor that continues it when there is one row more."""
    shown = rows[:limit]
    return Page(items=[read(row) for row in shown], next=next_cursor(shown[-1].number) if len(rows) > limit else None)
