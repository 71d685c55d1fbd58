"""What this node lets one borrower reveal, whatever the borrower asks for (PROTOCOL §10): queries add up, over all lenders and deployments.

One private query per feature set, for ever; a few feature sets in a period; one quote per lender's key in the period that its policy names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from hessian.errors import Conflict
from hessian.identifiers import Timestamp
from hessian.postgres.session import Session
from owner_api.applications.features import is_same_set
from owner_api.applications.offers import Offer
from owner_api.states import ApplicationMode, ApplicationState
from owner_api.tables import Application, Owner
from owner_api.world import World


class SameFeatures(Conflict):
    """These features, or half of them, were sent before: every further query about them would tell lenders more."""


class TooManyFeatureSets(Conflict):
    """This borrower has sent as many feature sets as this node allows in a period."""


class QuotePeriodNotOver(Conflict):
    """This lender gives one quote per account and period, and the period is not over."""


async def require_within_limits(
    session: Session, world: World, owner: Owner, offer: Offer, mode: ApplicationMode, cells: bytes, now: Timestamp
) -> None:
    """Raises SameFeatures, TooManyFeatureSets, QuotePeriodNotOver. The caller holds the owner's lock."""
    wanted = select(Application).where(Application.owner_id == owner.id).order_by(Application.number)
    earlier = list((await session.execute(wanted)).scalars())
    require_quote_due(earlier, offer, now)
    if mode is ApplicationMode.PRIVATE:
        _require_new(earlier, offer, cells)
        _require_few(world, earlier)


def require_quote_due(earlier: Sequence[Application], offer: Offer, now: Timestamp) -> None:
    """The lender's node would leave a further request unanswered: its fee would only come back late. Raises QuotePeriodNotOver."""
    period = offer.scoring.policy.quote_period_seconds
    for application in earlier:
        if application.lender_key != offer.lender_key:
            continue
        if ApplicationState(application.state).is_under_way:
            raise QuotePeriodNotOver(
                f"application {application.id} to this lender is under way: it gives one quote per account in {period} seconds"
            )
        if application.answered_at is not None and application.answered_at + period > now:
            over = datetime.fromtimestamp(application.answered_at + period, UTC)
            raise QuotePeriodNotOver(
                f"this lender answered application {application.id} and gives one quote per account in {period} seconds: "
                f"apply again after {over:%Y-%m-%d %H:%M:%S} UTC"
            )


def _require_new(earlier: Sequence[Application], offer: Offer, cells: bytes) -> None:
    for application in earlier:
        if application.mode == ApplicationMode.PRIVATE and is_same_set(application.cells, cells):
            bits = offer.scoring.scale.blinding_bits + 1
            again = "; to send the same bytes again, post to its requests" if application.state == ApplicationState.EXPIRED else ""
            raise SameFeatures(
                f"these features, or half of them, were sent before, in application {application.id}: every further query about them tells "
                f"a lender up to {bits} bits more, so this node sends one per borrower and feature set, over all deployments{again}"
            )


def _require_few(world: World, earlier: Sequence[Application]) -> None:
    settings = world.settings
    since = datetime.now(UTC) - timedelta(seconds=settings.borrowing_period_seconds)
    recent = [one for one in earlier if one.mode == ApplicationMode.PRIVATE and one.cells and one.created_at > since]
    if len(recent) >= settings.borrowing_feature_sets:
        raise TooManyFeatureSets(
            f"this borrower has sent {len(recent)} feature sets within {settings.borrowing_period_seconds} seconds, the most this node "
            "allows: what differs between them tells lenders more about each"
        )
