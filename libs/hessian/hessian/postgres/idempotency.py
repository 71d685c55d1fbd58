"""`Idempotency-Key`: the same key gives the same answer, and the effect once.

The row is written in the transaction of the effect: of fifty identical requests one inserts, the others wait for its commit and read
the stored answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import LargeBinary, String, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column

from hessian.errors import Conflict
from hessian.postgres.columns import CreatedAt
from hessian.postgres.engine import Database
from hessian.postgres.session import Session


class IdempotencyKeyReused(Conflict):
    """This Idempotency-Key was used for another request."""


class IdempotentAnswer:
    """Mixin for the table of answers already given."""

    __tablename__ = "idempotent_answers"

    caller: Mapped[str] = mapped_column(String(80), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]


AnswerT = TypeVar("AnswerT", bound=BaseModel)


async def given(
    database: Database, table: type[IdempotentAnswer], *, caller: str, key: str, request: str, answer_type: type[AnswerT]
) -> AnswerT | None:
    """The answer that was given already, read in a transaction of its own: for acts that fetch something before `once` takes a connection.

    Raises IdempotencyKeyReused.
    """
    async with database.begin() as session:
        row = (await session.execute(select(table).where(table.caller == caller, table.key == key))).scalar_one_or_none()
    return None if row is None else _stored(row, request, answer_type)


async def once(
    session: Session,
    table: type[IdempotentAnswer],
    *,
    caller: str,
    key: str,
    request: str,
    answer_type: type[AnswerT],
    act: Callable[[], Awaitable[AnswerT]],
) -> AnswerT:
    """Do `act` at most once per (caller, key) and return its answer, now or as it was stored.

    `request` is the canonical text of method, path and body. `act` fetches nothing: a connection would wait with it. Raises
    IdempotencyKeyReused when the key came with another request.
    """
    claimed = await session.execute(
        insert(table)
        .values(caller=caller, key=key, fingerprint=_fingerprint(request))
        .on_conflict_do_nothing(index_elements=["caller", "key"])
        .returning(table.key)
    )
    if claimed.scalar_one_or_none() is None:
        row = (await session.execute(select(table).where(table.caller == caller, table.key == key))).scalar_one()
        return _stored(row, request, answer_type)
    answer = await act()
    row = (await session.execute(select(table).where(table.caller == caller, table.key == key))).scalar_one()
    row.answer = answer.model_dump(mode="json")
    return answer


def _stored(row: IdempotentAnswer, request: str, answer_type: type[AnswerT]) -> AnswerT:
    if row.fingerprint != _fingerprint(request):
        raise IdempotencyKeyReused
    return answer_type.model_validate(row.answer)


def _fingerprint(request: str) -> bytes:
    return hashlib.sha256(request.encode()).digest()
