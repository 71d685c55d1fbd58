"""SQL of the cursor, the events and the projection. Every function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Table, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from coordinator import tables
from coordinator.projection import MONEY_ONLY, CohortView, MemberView, ModelView, RoundView, SubmissionView
from hessian.chain.blocks import Block
from hessian.chain.contract_events import ContractEvent
from hessian.chain.contracts import Contracts
from hessian.chain.events import RepositoryEvent
from hessian.chain.records import ModelState, RoundState
from hessian.identifiers import Address, ChainId, CohortId, ModelId, RoundId, Timestamp
from hessian.postgres.session import Session
from hessian.settings import BadSettings

_SUBJECTS = ("model_id", "cohort_id", "round_id", "deployment_id", "request_id")


class OtherContractFollowed(BadSettings):
    """This database follows other contracts: give each pair of contracts a database of its own."""


async def found_cursor(session: Session, chain_id: ChainId, repository: Address, deployment: Address, start: Block) -> tables.Cursor:
    """The cursor, set to `start` if there was none."""
    values = {
        "id": 1,
        "chain_id": chain_id,
        "repository_address": repository,
        "deployment_address": deployment,
        "block_number": start.number,
        "block_hash": start.hash,
        "timestamp": start.timestamp,
    }
    await session.execute(insert(tables.Cursor).values(values).on_conflict_do_nothing(index_elements=["id"]))
    return (await session.execute(select(tables.Cursor))).scalar_one()


def require_followed(cursor: tables.Cursor, contracts: Contracts) -> None:
    """A cursor from before there was a serving contract names none yet. Raises OtherContractFollowed."""
    served = cursor.deployment_address or contracts.deployment.address
    expected = (contracts.repository.chain.chain_id, contracts.repository.address, contracts.deployment.address)
    if (cursor.chain_id, cursor.repository_address, served) != expected:
        raise OtherContractFollowed


async def adopt_deployment(session: Session, address: Address) -> None:
    """From now on the cursor stands for the serving contract as well."""
    await session.execute(update(tables.Cursor).values(deployment_address=address))


async def read_cursor(session: Session, *, lock: bool = False) -> tables.Cursor | None:
    """The last block done; with `lock`, nobody else advances until the transaction ends."""
    query = select(tables.Cursor).execution_options(populate_existing=True)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def advance_cursor(session: Session, first: Block, last: Block, events: int) -> None:
    """Move the cursor over first…last and record the range: quiet ranges extend the row before them."""
    await session.execute(update(tables.Cursor).values(block_number=last.number, block_hash=last.hash, timestamp=last.timestamp))
    if events == 0:
        extended = await session.execute(
            update(tables.BlockRange)
            .where(tables.BlockRange.last_number == first.number - 1, tables.BlockRange.last_hash == first.parent_hash)
            .values(last_number=last.number, last_hash=last.hash)
            .returning(tables.BlockRange.first_number)
        )
        if extended.scalar_one_or_none() is not None:
            return
    session.add(
        tables.BlockRange(
            first_number=first.number,
            first_parent_hash=first.parent_hash,
            last_number=last.number,
            last_hash=last.hash,
            events=events,
        )
    )


async def store_event(session: Session, contract: str, event: ContractEvent, **subjects: int | None) -> None:
    """Keep an event of the contract of this name; (block hash, log index) can be stored once. `subjects`: the ids that it leaves unsaid."""
    place = event.place
    account = next((getattr(event, name) for name in ("member", "account", "requester", "lender") if hasattr(event, name)), None)
    ids = {name: subjects.get(name, getattr(event, name, None)) for name in _SUBJECTS}
    await session.execute(
        insert(tables.Event).values(
            block_hash=place.block_hash,
            log_index=place.log_index,
            block_number=place.block_number,
            transaction_hash=place.transaction_hash,
            timestamp=place.timestamp,
            contract=contract,
            kind=event.kind,
            account=account,
            plain=event.to_plain(),
            **ids,
        )
    )


async def model_of(session: Session, event: RepositoryEvent) -> ModelId | None:
    """The model that an event is about: most say it, those of a round's inside leave it to the round."""
    if hasattr(event, "model_id"):
        return ModelId(event.model_id)
    if not hasattr(event, "round_id"):
        return None
    return (await session.execute(select(tables.Round.model_id).where(tables.Round.round_id == event.round_id))).scalar_one_or_none()


async def load_for(session: Session, event: RepositoryEvent, model_id: ModelId | None) -> ModelView | None:
    """The view before `event`, with the cohort and the round it speaks of."""
    if model_id is None or isinstance(event, MONEY_ONLY):
        return None
    return await load_model(session, model_id, cohort_id=getattr(event, "cohort_id", None), round_id=getattr(event, "round_id", None))


async def load_model(
    session: Session, model_id: ModelId, *, cohort_id: CohortId | None = None, round_id: RoundId | None = None
) -> ModelView | None:
    """A model with its round in flight, its cohorts that are not closed, and those named. None when it is unknown."""
    found = await rows_of(session, tables.Model, tables.Model.model_id == model_id)
    if not found:
        return None
    running = or_(tables.Round.ended_at.is_(None), tables.Round.round_id == round_id)
    round_rows = await rows_of(session, tables.Round, tables.Round.model_id == model_id, running)
    named = {row["cohort_id"] for row in round_rows} | ({cohort_id} if cohort_id is not None else set())
    wanted = or_(tables.Cohort.is_closed.is_(False), tables.Cohort.cohort_id.in_(named))
    cohort_rows = await rows_of(session, tables.Cohort, tables.Cohort.model_id == model_id, wanted)
    members = await _members(session, [row["cohort_id"] for row in cohort_rows])
    submissions = await _submissions(session, [row["round_id"] for row in round_rows])
    return ModelView(
        **found[0],
        cohorts={row["cohort_id"]: CohortView(**row, members=members.get(row["cohort_id"], ())) for row in cohort_rows},
        rounds={row["round_id"]: RoundView(**row, submissions=submissions.get(row["round_id"], ())) for row in round_rows},
    )


async def save_model(session: Session, before: ModelView | None, after: ModelView) -> None:
    """Write what the fold changed."""
    await put(session, tables.Model, after, before)
    for cohort_id, cohort in after.cohorts.items():
        old = before.cohorts.get(cohort_id) if before else None
        await put(session, tables.Cohort, cohort, old)
        if cohort.members != (old.members if old else ()):
            await _replace_members(session, cohort)
    for round_id, current in after.rounds.items():
        earlier = before.rounds.get(round_id) if before else None
        await put(session, tables.Round, current, earlier)
        known = set(earlier.submissions if earlier else ())
        for submission in current.submissions:
            if submission not in known:
                await put(session, tables.Submission, submission, None, round_id=round_id)


async def passed_deadlines(session: Session, after: Timestamp, now: Timestamp) -> list[ModelView]:
    """The models that had a deadline, of their round or their own, pass between the two: at `after` not yet, at `now` it has."""
    rounds = select(tables.Round.model_id).where(
        tables.Round.ended_at.is_(None), tables.Round.deadline >= after, tables.Round.deadline < now
    )
    models = select(tables.Model.model_id).where(
        tables.Model.state == ModelState.OPEN, tables.Model.training_deadline >= after, tables.Model.training_deadline < now
    )
    model_ids: set[ModelId] = set((await session.execute(rounds)).scalars()) | set((await session.execute(models)).scalars())
    views = [await load_model(session, model_id) for model_id in sorted(model_ids)]
    return [view for view in views if view is not None]


async def awaiting_submissions(session: Session) -> list[ModelView]:
    """The models with a round in which members may still submit."""
    model_ids = (await session.execute(select(tables.Round.model_id).where(tables.Round.state == RoundState.SUBMITTING))).scalars()
    views = [await load_model(session, model_id) for model_id in sorted(model_ids)]
    return [view for view in views if view is not None]


async def rows_of(session: Session, table: type[tables.Base], *conditions: Any) -> list[dict[str, Any]]:
    """Plain rows, past the session's identity map: the fold's writes go past it too."""
    query = select(*_table(table).columns).where(*conditions).order_by(*_table(table).primary_key.columns)
    return [dict(row._mapping) for row in await session.execute(query)]


async def put(session: Session, table: type[tables.Base], view: object, before: object | None, **extra: Any) -> None:
    """Write a view's row, unless it is what `before` was."""
    values = _values(table, view, extra)
    if before is not None and values == _values(table, before, extra):
        return
    keys = [column.name for column in _table(table).primary_key.columns]
    await session.execute(insert(table).values(values).on_conflict_do_update(index_elements=keys, set_=values))


def _values(table: type[tables.Base], view: object, extra: dict[str, Any]) -> dict[str, Any]:
    return {column.name: extra[column.name] if column.name in extra else getattr(view, column.name) for column in _table(table).columns}


async def _replace_members(session: Session, cohort: CohortView) -> None:
    await session.execute(delete(tables.Member).where(tables.Member.cohort_id == cohort.cohort_id))
    if cohort.members:
        places: Iterable[tuple[int, MemberView]] = enumerate(cohort.members)
        rows = [{"cohort_id": cohort.cohort_id, "member_index": i, "account": one.account, "rows": one.rows} for i, one in places]
        await session.execute(insert(tables.Member).values(rows))


async def _members(session: Session, cohort_ids: Sequence[CohortId]) -> dict[CohortId, tuple[MemberView, ...]]:
    members: dict[CohortId, tuple[MemberView, ...]] = {}
    for row in await rows_of(session, tables.Member, tables.Member.cohort_id.in_(cohort_ids)):
        members[row["cohort_id"]] = (*members.get(row["cohort_id"], ()), MemberView(row["account"], row["rows"]))
    return members


async def _submissions(session: Session, round_ids: Sequence[RoundId]) -> dict[RoundId, tuple[SubmissionView, ...]]:
    submissions: dict[RoundId, tuple[SubmissionView, ...]] = {}
    for row in await rows_of(session, tables.Submission, tables.Submission.round_id.in_(round_ids)):
        round_id = row.pop("round_id")
        submissions[round_id] = (*submissions.get(round_id, ()), SubmissionView(**row))
    return submissions


def _table(table: type[tables.Base]) -> Table:
    found = table.__table__
    assert isinstance(found, Table)  # noqa: S101  # what declarative classes have
    return found
