"""One look at the tables: everything in it is of one snapshot, so that a position and the state that goes with it belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel
from sqlalchemy import func, select

from coordinator import repository, tables
from coordinator.progress.positions import Position, Stand, read_after, read_stand
from coordinator.progress.schemas import RoundProgress
from coordinator.schemas import BlockRead, JobRead
from hessian.postgres.engine import Database
from hessian.postgres.session import Session

LARGEST = 100
"""Events that a stream holds at a time: all it ever buffers."""


@dataclass(frozen=True, slots=True)
class Event:
    """One object as it stood after `position`."""

    position: Position
    name: str
    data: BaseModel


@dataclass(frozen=True, slots=True)
class Batch:
    """What follows a position. `stand` tells whether the position meant anything."""

    stand: Stand
    cursor: BlockRead | None
    events: list[Event]

    @property
    def is_full(self) -> bool:
        """There may be more at once."""
        return len(self.events) == LARGEST


async def read_batch(database: Database, after: Position | None) -> Batch:
    """What follows `after`; the stand alone for None, and for what this cluster does not know. Raises DatabaseUnavailable."""
    async with database.begin() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        stand = await read_stand(session)
        cursor = await repository.read_cursor(session)
        block = None if cursor is None else BlockRead(number=cursor.block_number, timestamp=cursor.timestamp)
        if after is None or not stand.knows(after):
            return Batch(stand, block, [])
        positions = await read_after(session, after, stand, limit=LARGEST)
        found: dict[tuple[str, int], BaseModel] = {
            **{("round", read.round_id): read for read in await _rounds(session, _ids(positions, "round"))},
            **{("job", read.id): read for read in await _jobs(session, _ids(positions, "job"))},
        }
    return Batch(stand, block, [Event(at, at.kind, found[at.kind, at.object_id]) for at in positions])


def _ids(positions: Iterable[Position], kind: str) -> list[int]:
    return [position.object_id for position in positions if position.kind == kind]


async def _jobs(session: Session, ids: list[int]) -> list[JobRead]:
    rows = (await session.execute(select(tables.Job).where(tables.Job.id.in_(ids)))).scalars()
    return [JobRead.model_validate(row) for row in rows]


async def _rounds(session: Session, ids: list[int]) -> list[RoundProgress]:
    part = tables.Submission
    counted = select(part.round_id, func.count().label("submitted"), func.count(part.unlocked_at).label("unlocked"))
    counts = {row.round_id: row for row in await session.execute(counted.where(part.round_id.in_(ids)).group_by(part.round_id))}
    rows = (await session.execute(select(tables.Round).where(tables.Round.round_id.in_(ids)))).scalars()
    return [
        RoundProgress.model_validate(
            {
                **{name: getattr(row, name) for name in RoundProgress.model_fields if hasattr(row, name)},
                "state": row.state.name.lower(),
                "pool_wei": row.pool,
                "submitted": counts[row.round_id].submitted if row.round_id in counts else 0,
                "unlocked": counts[row.round_id].unlocked if row.round_id in counts else 0,
            }
        )
        for row in rows
    ]
