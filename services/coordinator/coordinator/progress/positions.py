"""Where a reader of the stream stands, and what comes after it.

The table `changes` holds one row for every round and job: the transaction that changed it last (a trigger writes it). Transactions end in
another order than they begin, so only those below the oldest that still runs are read: what comes later has a higher position, for sure.
A reader that falls behind finds an object's newest state once instead of every state it went through; nothing is kept for it anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from sqlalchemy import bindparam, select, text, tuple_

from coordinator.tables import Change
from hessian.postgres.session import Session

_SHAPE = re.compile(r"([0-9a-f]{16})\.(\d{1,20})\.(round|job)\.(\d{1,19})")

_STAND = text(
    """
    SELECT substr(md5(control.system_identifier || '.' || checkpoint.timeline_id), 1, 16) AS epoch,
           CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS settled
    FROM pg_control_system() AS control, pg_control_checkpoint() AS checkpoint
    """
)
_AFTER = (
    select(Change)
    .where(tuple_(Change.changed, Change.kind, Change.object_id) > tuple_(bindparam("changed"), bindparam("kind"), bindparam("object_id")))
    .where(Change.changed < bindparam("settled"))
    .order_by(Change.changed, Change.kind, Change.object_id)
)
_TAKE_IN = text(
    """
    UPDATE changes SET changed = CAST(CAST(pg_current_xact_id() AS text) AS bigint)
    WHERE changed >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
    """
)


@dataclass(frozen=True, slots=True)
class Position:
    """After this change of this object. `epoch` names the database cluster: transaction numbers of another one mean nothing here."""

    epoch: str
    changed: int
    kind: str
    object_id: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.changed}.{self.kind}.{self.object_id}"

    @classmethod
    def parse(cls, words: str) -> Self | None:
        """None for what no stream of ours ever sent."""
        found = _SHAPE.fullmatch(words)
        return None if found is None else cls(found[1], int(found[2]), found[3], int(found[4]))


@dataclass(frozen=True, slots=True)
class Stand:
    """The cluster, and the oldest transaction that still runs: everything below it is settled."""

    epoch: str
    settled: int

    @property
    def beginning(self) -> Position:
        """Before everything."""
        return Position(self.epoch, 0, "job", 0)

    @property
    def now(self) -> Position:
        """After everything that is settled."""
        return Position(self.epoch, self.settled, "job", 0)

    def knows(self, position: Position) -> bool:
        """Whether this cluster, as it is now, can have given it: not after a restore or on another machine."""
        return position.epoch == self.epoch and position.changed <= self.settled


async def read_stand(session: Session) -> Stand:
    """As of now."""
    row = (await session.execute(_STAND)).one()
    return Stand(row.epoch, row.settled)


async def read_after(session: Session, position: Position, stand: Stand, *, limit: int) -> list[Position]:
    """The next changes in order."""
    values = {"changed": position.changed, "kind": position.kind, "object_id": position.object_id, "settled": stand.settled}
    rows = (await session.execute(_AFTER.limit(limit), values)).scalars()
    return [Position(stand.epoch, row.changed, row.kind, row.object_id) for row in rows]


async def take_in(session: Session) -> None:
    """Give rows that came with a backup of another cluster a position of this one. Once, at start."""
    await session.execute(_TAKE_IN)
