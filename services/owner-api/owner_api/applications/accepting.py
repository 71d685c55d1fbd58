"""What the borrower's own client carries to the lender, for nodes never call each other: an approved quote's opening, an application in the
open.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import structlog

from hessian.errors import Conflict, Violated
from hessian.postgres.session import Session
from owner_api.applications import secrets
from owner_api.applications.applying import find
from owner_api.applications.preparing import open_application
from owner_api.applications.schemas import AcceptanceRead, OpenApplicationRead, OpeningRead, OpenOpeningRead, ShownRead
from owner_api.states import ApplicationMode, ApplicationState
from owner_api.tables import Application, Owner
from owner_api.world import World

log = structlog.get_logger()
_QUOTED = (ApplicationState.QUOTED, ApplicationState.ACCEPTED)


class NothingToAccept(Conflict):
    """There is no approved quote to accept."""


class QuoteExpired(Conflict):
    """The quote does not hold any more."""


class DoubtNotConfirmed(Conflict):
    """The quote contradicts the published policy, or could not be compared with it; confirm with accept_doubtful to go on."""


class FeaturesErased(Conflict):
    """The features of this application were erased."""


class NothingToShow(Conflict):
    """Only an open application whose request is final is shown to a lender."""


class ApplicationUnderWay(Conflict):
    """The request is under way: the features are still needed."""


async def accept(session: Session, world: World, owner: Owner, application_id: uuid.UUID, *, doubtful: bool) -> AcceptanceRead:
    """The opening, the same every time; of a quote that is in doubt only once its borrower has confirmed it as `doubtful`.

    Raises ApplicationNotFound, NothingToAccept, QuoteExpired, FeaturesErased, DoubtNotConfirmed.
    """
    application = await find(session, owner, application_id, lock=True)
    quote = secrets.quote_of(world.vault, application)
    if application.state not in _QUOTED or quote is None or application.request_id is None:
        raise NothingToAccept(f"the application is {application.state}: there is no quote to accept")
    if not quote.decision.approved:
        raise NothingToAccept("the lender declined: there is nothing to accept")
    if application.erased_at is not None:
        raise FeaturesErased
    now = (await world.chain.head_block()).timestamp
    if now > quote.valid_until:
        raise QuoteExpired(f"the quote held until {datetime.fromtimestamp(quote.valid_until, UTC):%Y-%m-%d %H:%M:%S} UTC")
    if application.state == ApplicationState.QUOTED:
        if application.reason is not None and not doubtful:  # what a quote is in doubt for, as it was concluded
            raise DoubtNotConfirmed(
                f"{application.reason}. The opening shows the lender the features, whatever it then stands by. Send accept_doubtful: true "
                "to accept that"
            )
        application.move_to(ApplicationState.ACCEPTED, application.reason)
        log.info("application_accepted", application_id=str(application.id))
    return AcceptanceRead(request_id=application.request_id, opening=_opening(world, application))


async def show(session: Session, world: World, owner: Owner, application_id: uuid.UUID) -> ShownRead:
    """The open application for the lender. Raises ApplicationNotFound, NothingToShow, FeaturesErased."""
    application = await find(session, owner, application_id)
    if application.mode != ApplicationMode.OPEN or application.request_id is None:
        raise NothingToShow
    if application.erased_at is not None:
        raise FeaturesErased
    shown = OpenApplicationRead(**_open_fields(world, application))
    return ShownRead(request_id=application.request_id, application=shown)


async def erase(world: World, owner: Owner, application_id: uuid.UUID) -> None:
    """Forget features, salt, R, key and query; the history and the values' fingerprints stay. What was not requested yet is withdrawn.

    The query is unpinned once the row is without it: the pin audit would put back what the row still holds. Raises ApplicationNotFound,
    ApplicationUnderWay, IpfsUnavailable. Repeatable, and to be repeated after IpfsUnavailable.
    """
    async with world.database.begin() as session:
        application = await find(session, owner, application_id, lock=True)
        if application.state == ApplicationState.PREPARING:
            application.move_to(ApplicationState.FAILED, "withdrawn by the borrower before anything was paid")
        if ApplicationState(application.state).is_under_way:
            raise ApplicationUnderWay
        if application.erased_at is None:
            application.erase()
            log.info("application_erased", application_id=str(application.id))
    if (query := application.published_query) is not None:
        await world.store.unpin(query)


def _opening(world: World, application: Application) -> OpeningRead | OpenOpeningRead:
    if application.query_digest is None:
        raise Violated(f"application {application.id} was answered without a query")
    if application.mode == ApplicationMode.OPEN:
        return OpenOpeningRead(query_digest=application.query_digest, **_open_fields(world, application))
    opening = secrets.opening_of(world.vault, application)
    return OpeningRead(
        query_digest=application.query_digest,
        features=dict(opening.features),
        salt=f"0x{opening.salt.hex()}",
        blinding=hex(opening.blinding),
    )


def _open_fields(world: World, application: Application) -> dict[str, Any]:
    shown = open_application(world, application)
    return {"features": dict(shown.features), "salt": f"0x{shown.salt.hex()}", "borrower_key": f"0x{shown.borrower_key.hex()}"}
