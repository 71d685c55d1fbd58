"""Tickets: 256 random bits that let the trainer, and only with its own token, fetch what one job needs. Stored as hashes, and they expire.

A rows ticket works once. A gradient ticket is bound to round, member and weights and works until the member has submitted, so that a job
that died can be repeated: the same masks over the same sums, and the first artifact stored is the one that counts. A score ticket is bound
to one application, and with it to a deployment and its scoring model; it works until the query is stored, for the same reason.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select, update

from hessian.errors import NotFound
from hessian.postgres.session import Session
from hessian.service.tokens import new_token, token_hash
from owner_api.settings import OwnerApiSettings
from owner_api.tables import Application, Contribution, Enrollment, Ticket

ROWS = "rows"
GRADIENT = "gradient"
SCORE = "score"


class TicketRefused(NotFound):
    """There is no such ticket, or it was used, or it expired."""


async def issue_rows(session: Session, settings: OwnerApiSettings, enrollment: Enrollment) -> str:
    """A one-time ticket for the rows of the enrolment's dataset."""
    return await _issue(session, settings, Ticket(purpose=ROWS, enrollment_id=enrollment.id))


async def issue_gradient(session: Session, settings: OwnerApiSettings, contribution: Contribution) -> str:
    """A ticket for statistics and masks of one contribution."""
    ticket = Ticket(
        purpose=GRADIENT,
        enrollment_id=contribution.enrollment_id,
        contribution_id=contribution.id,
        weights_digest=contribution.weights_digest,
    )
    return await _issue(session, settings, ticket)


async def issue_score(session: Session, settings: OwnerApiSettings, application: Application) -> str:
    """A ticket for the features and secrets of one application."""
    ticket = Ticket(purpose=SCORE, application_id=application.id, weights_digest=application.weights_digest)
    return await _issue(session, settings, ticket)


async def _issue(session: Session, settings: OwnerApiSettings, ticket: Ticket) -> str:
    await session.execute(delete(Ticket).where(Ticket.expires_at < func.now()))
    token = new_token()
    ticket.hash = token_hash(token)
    ticket.expires_at = datetime.now(UTC) + timedelta(seconds=settings.ticket_seconds)
    session.add(ticket)
    await session.flush()
    return token


async def take_rows(session: Session, ticket: str) -> uuid.UUID:
    """Use a rows ticket up; the enrolment it was issued for. Raises TicketRefused."""
    used = (
        update(Ticket)
        .where(Ticket.hash == token_hash(ticket), Ticket.purpose == ROWS, Ticket.used_at.is_(None), Ticket.expires_at > func.now())
        .values(used_at=func.now())
        .returning(Ticket.enrollment_id)
    )
    enrollment_id = (await session.execute(used)).scalar_one_or_none()
    if enrollment_id is None:
        raise TicketRefused
    return enrollment_id


async def take_gradient(session: Session, ticket: str) -> uuid.UUID:
    """The contribution a gradient ticket stands for. Raises TicketRefused."""
    return _named((await _take(session, ticket, GRADIENT)).contribution_id)


async def take_score(session: Session, ticket: str) -> uuid.UUID:
    """The application a score ticket stands for. Raises TicketRefused."""
    return _named((await _take(session, ticket, SCORE)).application_id)


async def _take(session: Session, ticket: str, purpose: str) -> Ticket:
    wanted = select(Ticket).where(Ticket.hash == token_hash(ticket), Ticket.purpose == purpose, Ticket.expires_at > func.now())
    found = (await session.execute(wanted.with_for_update())).scalar_one_or_none()
    if found is None:
        raise TicketRefused
    found.used_at = datetime.now(UTC)
    return found


def _named(subject: uuid.UUID | None) -> uuid.UUID:
    if subject is None:
        raise TicketRefused
    return subject
