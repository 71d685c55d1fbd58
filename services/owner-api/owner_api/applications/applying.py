"""Applying: everything that can be refused is refused at once, with a sentence, before anything is stored or sent.

What the borrower says of itself, the salt, R and the key of the answer are sealed with the new row; the worker does the rest.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import structlog
from sqlalchemy import event, select

from hessian.errors import Conflict, NotFound
from hessian.identifiers import Wei
from hessian.postgres.session import Session
from hessian.service import transfers
from hessian.service.transfers import Funds
from owner_api.applications import secrets
from owner_api.applications.features import canonical_features, fingerprints
from owner_api.applications.limits import require_quote_due, require_within_limits
from owner_api.applications.offers import Offer, require_offer
from owner_api.applications.schemas import ApplicationCreate
from owner_api.enrollments.service import BalanceTooLow
from owner_api.promises import lock_wallet, promised_by
from owner_api.states import ApplicationMode, ApplicationState
from owner_api.tables import Application, Owner
from owner_api.world import World

log = structlog.get_logger()
_CELLS = "applied values"
_REPEATABLE = (ApplicationState.EXPIRED, ApplicationState.FAILED)


class FeeAboveLimit(Conflict):
    """The deployment's fee is above the limit of the request."""


class ApplicationNotFound(NotFound):
    """There is no such application of this owner."""


class NothingToRepeat(Conflict):
    """Only a request that expired, or failed after its query was made, can be made again."""


@dataclass(frozen=True)
class Prospect:
    """What chain and IPFS say of a deployment and a borrower, asked before a transaction begins. `funds` are the head's."""

    offer: Offer
    funds: Funds


async def look(world: World, owner: Owner, deployment_id: int) -> Prospect:
    """The caller holds no session: content is waited for. Raises DeploymentUnknown, ManifestNotUsable, ScoringModelNotUsable,
    DeploymentNotServing, Unavailable."""
    offer = await require_offer(world, deployment_id)
    return Prospect(offer, await transfers.funds(world.chain, owner.address))


async def apply(session: Session, world: World, owner: Owner, wanted: ApplicationCreate, seen: Prospect) -> Application:
    """A new application in state `preparing`. Raises FeaturesRefused, FeeAboveLimit, BalanceTooLow, and the refusals of limits."""
    offer = seen.offer
    features = canonical_features(offer.manifest.specification, wanted.features)
    _require_fee(offer, Wei(wanted.max_fee_wei))
    cells = fingerprints(world.vault.derive(f"{_CELLS} {owner.id}"), offer.manifest.specification, features)
    await lock_wallet(session, owner)
    await _require_balance(session, world, owner, seen)
    await require_within_limits(session, world, owner, offer, wanted.mode, cells, seen.funds.block.timestamp)
    application = Application(
        id=uuid.uuid4(),
        owner_id=owner.id,
        contract=world.deployment.address,
        deployment_id=offer.deployment_id,
        model_id=offer.record.model_id,
        lender_key=offer.lender_key,
        manifest_digest=offer.manifest.digest,
        weights_digest=offer.record.weights_digest,
        scoring_digest=offer.record.scoring_digest,
        mode=wanted.mode,
        state=ApplicationState.PREPARING,
        fee=offer.record.fee,
        cells=cells,
    )
    is_private = wanted.mode is ApplicationMode.PRIVATE
    secrets.draw(world.vault, application, features, (offer.manifest.public_key, offer.scoring.scale.blinding_bits) if is_private else None)
    session.add(application)
    await session.flush()
    await session.refresh(application)
    log.info("application_created", application_id=str(application.id), deployment_id=int(offer.deployment_id), mode=wanted.mode.value)
    return application


async def request_again(
    session: Session, world: World, owner: Owner, application_id: uuid.UUID, max_fee: Wei, seen: Prospect
) -> Application:
    """Pay again for the same query. Raises ApplicationNotFound, NothingToRepeat, FeeAboveLimit, BalanceTooLow, QuotePeriodNotOver."""
    _require_fee(seen.offer, max_fee)
    await lock_wallet(session, owner)
    await _require_balance(session, world, owner, seen)
    application = await find(session, owner, application_id, lock=True)
    if application.state not in _REPEATABLE or application.query_digest is None or application.erased_at is not None:
        raise NothingToRepeat(f"the application is {application.state}, or its features were erased: there is no request to make again")
    others = select(Application).where(Application.owner_id == owner.id, Application.id != application.id)
    require_quote_due(list((await session.execute(others)).scalars()), seen.offer, seen.funds.block.timestamp)
    application.move_to(ApplicationState.PREPARING)
    application.request_id = application.deadline = None
    await session.flush()
    await session.refresh(application)
    return application


async def find(session: Session, owner: Owner, application_id: uuid.UUID, *, lock: bool = False) -> Application:
    """An application of this owner. Raises ApplicationNotFound."""
    wanted = select(Application).where(Application.id == application_id, Application.owner_id == owner.id)
    if lock:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    application = (await session.execute(wanted)).scalar_one_or_none()
    if application is None:
        raise ApplicationNotFound
    return application


def wake_worker_after_commit(session: Session, world: World) -> None:
    """The worker finds the row at once instead of at its next look."""
    event.listen(session.sync_session, "after_commit", lambda _: world.to_apply.set(), once=True)


def _require_fee(offer: Offer, most: Wei) -> None:
    fee = offer.record.fee
    if fee > most:
        raise FeeAboveLimit(f"the fee is {fee} wei, above max_fee_wei {most}")


async def _require_balance(session: Session, world: World, owner: Owner, seen: Prospect) -> None:
    """The caller holds the owner's lock. Raises BalanceTooLow."""
    fee, balance = seen.offer.record.fee, seen.funds.balance
    promised = await promised_by(session, owner, seen.funds.block)
    needed = fee + world.settings.gas_reserve_wei
    if balance - promised.total < needed:
        raise BalanceTooLow(
            f"the wallet {owner.address} holds {balance} wei{promised.aside}; this application needs {needed} wei "
            f"(fee {fee} and {world.settings.gas_reserve_wei} for gas): send ether to it first"
        )
