"""The queries behind the read API: rows in, the shapes of schemas.py out, a page at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, func, select

from coordinator import tables
from coordinator.jobs import JobState
from coordinator.schemas import (
    CohortRead,
    ContributionRead,
    DeploymentRead,
    EventRead,
    JobRead,
    MemberRead,
    ModelRead,
    RequestRead,
    RoundRead,
)
from hessian.chain.deployment_records import RequestState
from hessian.chain.records import ModelState, RoundState
from hessian.identifiers import Address, CohortId, ModelId, RoundId, Timestamp
from hessian.postgres.session import Session

RowT = TypeVar("RowT", bound=tables.Base)


async def page(
    session: Session, table: type[RowT], key: ColumnElement[Any], after: int, limit: int, conditions: Iterable[ColumnElement[bool]]
) -> tuple[list[RowT], bool]:
    """Up to `limit` rows after `after` by `key`, and whether there are more."""
    rows = (await session.execute(select(table).where(key > after, *conditions).order_by(key).limit(limit + 1))).scalars().all()
    return list(rows[:limit]), len(rows) > limit


async def models(session: Session, rows: Sequence[tables.Model], now: Timestamp) -> list[ModelRead]:
    """Models with their open cohorts; one past its training deadline reads as expired at `now`."""
    ids = [row.model_id for row in rows]
    cohorts = await _open_cohorts(session, ids)
    running = await session.execute(
        select(tables.Round.model_id, tables.Round.round_id).where(tables.Round.model_id.in_(ids), tables.Round.ended_at.is_(None))
    )
    in_flight: dict[int, RoundId] = {row.model_id: row.round_id for row in running}
    return [_model(row, cohorts[row.model_id], in_flight.get(row.model_id), now) for row in rows]


async def rounds(session: Session, rows: Sequence[tables.Round]) -> list[RoundRead]:
    """Rounds with every member's part and this node's jobs."""
    ids = [row.round_id for row in rows]
    members = await _members(session, [row.cohort_id for row in rows])
    submissions = {
        (row.round_id, row.member): row
        for row in (await session.execute(select(tables.Submission).where(tables.Submission.round_id.in_(ids)))).scalars()
    }
    jobs = await _jobs(session, "round_id", ids)
    return [_round(row, members[row.cohort_id], submissions, jobs[row.round_id]) for row in rows]


def deployments(rows: Sequence[tables.Deployment]) -> list[DeploymentRead]:
    """Deployments as they stand."""
    return [DeploymentRead.model_validate({**_plain(row), "fee_wei": row.fee}) for row in rows]


async def requests(session: Session, rows: Sequence[tables.ScoreRequest]) -> list[RequestRead]:
    """Requests with this node's jobs."""
    jobs = await _jobs(session, "request_id", [row.request_id for row in rows])
    return [RequestRead.model_validate({**_plain(row), "state": _word(row.state), "jobs": jobs[row.request_id]}) for row in rows]


def events(rows: Sequence[tables.Event]) -> list[EventRead]:
    """Events with their arguments."""
    own = {"event", "place"}
    names = [name for name in EventRead.model_fields if name != "arguments"]
    return [
        EventRead.model_validate(
            {
                **{name: getattr(row, name) for name in names},
                "arguments": {name: value for name, value in row.plain.items() if name not in own},
            }
        )
        for row in rows
    ]


async def job_counts(session: Session) -> dict[JobState, int]:
    """How many jobs stand in each state."""
    counted = await session.execute(select(tables.Job.state, func.count().label("jobs")).group_by(tables.Job.state))
    return dict.fromkeys(JobState, 0) | {row.state: row.jobs for row in counted}


async def _jobs(session: Session, subject: Literal["round_id", "request_id"], ids: Sequence[int]) -> dict[int, list[JobRead]]:
    """This node's jobs by the round or the request that they are about."""
    column = tables.Job.__table__.c[subject]
    found: dict[int, list[JobRead]] = defaultdict(list)
    for job in (await session.execute(select(tables.Job).where(column.in_(ids)).order_by(tables.Job.id))).scalars():
        found[getattr(job, subject)].append(JobRead.model_validate(job))
    return found


async def _open_cohorts(session: Session, model_ids: Sequence[ModelId]) -> dict[int, list[CohortRead]]:
    query = select(tables.Cohort).where(tables.Cohort.model_id.in_(model_ids), tables.Cohort.is_closed.is_(False))
    rows = (await session.execute(query.order_by(tables.Cohort.cohort_id))).scalars().all()
    members = await _members(session, [row.cohort_id for row in rows])
    found: dict[int, list[CohortRead]] = defaultdict(list)
    for row in rows:
        found[row.model_id].append(
            CohortRead(
                cohort_id=row.cohort_id,
                is_sealed=row.is_sealed,
                is_closed=row.is_closed,
                total_rows=row.total_rows,
                members=[MemberRead.model_validate(member) for member in members[row.cohort_id]],
            )
        )
    return found


async def _members(session: Session, cohort_ids: Sequence[CohortId]) -> dict[int, list[tables.Member]]:
    query = select(tables.Member).where(tables.Member.cohort_id.in_(cohort_ids))
    found: dict[int, list[tables.Member]] = defaultdict(list)
    for member in (await session.execute(query.order_by(tables.Member.cohort_id, tables.Member.member_index))).scalars():
        found[member.cohort_id].append(member)
    return found


def _model(row: tables.Model, cohorts: list[CohortRead], in_flight: RoundId | None, now: Timestamp) -> ModelRead:
    is_expired = row.state is ModelState.OPEN and now > row.training_deadline
    return ModelRead.model_validate(
        {
            **_plain(row),
            "state": _word(ModelState.EXPIRED if is_expired else row.state),
            "split_rule": row.split_rule.name.lower(),
            "bounty_wei": row.bounty,
            "base_fee_wei": row.base_fee,
            "paid_wei": row.paid,
            "refunded_wei": row.refunded,
            "round_in_flight": in_flight,
            "cohorts": cohorts,
        }
    )


def _round(
    row: tables.Round,
    members: Sequence[tables.Member],
    submissions: Mapping[tuple[RoundId, Address], tables.Submission],
    jobs: list[JobRead],
) -> RoundRead:
    parts = [(member, submissions.get((row.round_id, member.account))) for member in members]
    return RoundRead.model_validate(
        {
            **_plain(row),
            "state": _word(row.state),
            "reward_wei": row.reward,
            "pool_wei": row.pool,
            "submitted": sum(part is not None for _, part in parts),
            "unlocked": sum(part is not None and part.unlocked_at is not None for _, part in parts),
            "members": [
                ContributionRead(
                    member_index=member.member_index,
                    member=member.account,
                    rows=member.rows,
                    gradient_digest=part.gradient_digest if part else None,
                    submitted_at=part.submitted_at if part else None,
                    unlocked_at=part.unlocked_at if part else None,
                )
                for member, part in parts
            ],
            "jobs": jobs,
        }
    )


def _plain(row: tables.Base) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}


def _word(state: ModelState | RoundState | RequestState) -> str:
    return state.name.lower()
