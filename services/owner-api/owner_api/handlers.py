"""What happens when a transaction of this node is settled, by its purpose."""

from __future__ import annotations

from collections.abc import Mapping

from hessian.chain.blocks import Receipt
from hessian.outbox.relay import Handler
from hessian.postgres.session import Session
from owner_api.applications.preparing import REQUEST_SCORE, on_request_settled
from owner_api.contributions.attempts import SUBMIT, UNLOCK, on_sending_settled
from owner_api.earnings.service import WITHDRAW, on_withdrawal_settled
from owner_api.enrollments.following import on_leave_settled
from owner_api.enrollments.joining import JOIN, on_join_settled
from owner_api.enrollments.service import LEAVE, wake_worker_after_commit
from owner_api.tables import OutgoingTransaction
from owner_api.world import World


def handlers(world: World) -> Mapping[str, Handler]:
    """One per purpose; an expiry needs none, because the contract's own events tell of it."""

    async def join(session: Session, row: OutgoingTransaction, receipt: Receipt | None) -> None:
        await on_join_settled(session, row, receipt)
        wake_worker_after_commit(session, world)

    async def withdraw(session: Session, row: OutgoingTransaction, receipt: Receipt | None) -> None:
        await on_withdrawal_settled(world, session, row, receipt)

    async def request_score(session: Session, row: OutgoingTransaction, receipt: Receipt | None) -> None:
        await on_request_settled(world, session, row, receipt)

    return {
        JOIN: join,
        LEAVE: on_leave_settled,
        SUBMIT: on_sending_settled,
        UNLOCK: on_sending_settled,
        WITHDRAW: withdraw,
        REQUEST_SCORE: request_score,
    }
