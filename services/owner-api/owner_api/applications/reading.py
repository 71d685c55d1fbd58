"""Rows and chain records as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, or_, select

from hessian.artifacts.score_answer import Quote
from hessian.chain.deployment_records import DeploymentRecord
from hessian.errors import Conflict, IpfsUnavailable
from hessian.identifiers import DeploymentId
from hessian.lending.decision import Decision, decisions_by_band
from hessian.postgres.session import Session
from owner_api.applications.deployments import BandDecisionRead, DecisionWord, DeploymentRead, OfferRead, PolicyRead, policy_in_words
from owner_api.applications.expiring import EXPIRE_REQUEST
from owner_api.applications.offers import Offer, view_offer
from owner_api.applications.preparing import REQUEST_SCORE
from owner_api.applications.schemas import ApplicationRead, QuoteRead, TransactionRead
from owner_api.applications.secrets import quote_of
from owner_api.catalogue.schemas import feature_read
from owner_api.states import ApplicationMode, ApplicationState
from owner_api.tables import Application, OutgoingTransaction
from owner_api.world import World


async def read_deployment(world: World, deployment_id: int) -> DeploymentRead:
    """A deployment with this node's verdict, which speaks of bad artifacts too. Raises DeploymentUnknown, ChainUnavailable."""
    record = await world.deployment.deployment(DeploymentId(deployment_id), await world.chain.final_block())
    try:
        offer = await view_offer(world, DeploymentId(deployment_id))
    except (Conflict, IpfsUnavailable) as error:
        return _deployment(deployment_id, record, None, error.sentence)
    return _deployment(deployment_id, record, offer, None)


async def read_applications(session: Session, world: World, rows: Sequence[Application]) -> list[ApplicationRead]:
    """Applications with their transactions and quotes."""
    row = OutgoingTransaction
    requested = and_(row.purpose == REQUEST_SCORE, row.subject.in_([str(one.id) for one in rows]))
    requests = [str(one.request_id) for one in rows if one.request_id is not None]
    expired = and_(row.purpose == EXPIRE_REQUEST, row.to == world.deployment.address, row.subject.in_(requests))
    found = list((await session.execute(select(row).where(or_(requested, expired)).order_by(row.id))).scalars())
    return [_application(world, one, [each for each in found if each.subject in (str(one.id), str(one.request_id))]) for one in rows]


async def read_application(session: Session, world: World, row: Application) -> ApplicationRead:
    """One of them."""
    return (await read_applications(session, world, [row]))[0]


def _deployment(deployment_id: int, record: DeploymentRecord, offer: Offer | None, problem: str | None) -> DeploymentRead:
    return DeploymentRead(
        deployment_id=deployment_id,
        model_id=record.model_id,
        lender=record.lender,
        is_retired=record.is_retired,
        fee_wei=record.fee,
        answer_window=record.answer_window,
        scoring_digest=record.scoring_digest,
        offer=None if offer is None else _offer(offer),
        problem=problem,
        objections=[] if offer is None else list(offer.objections),
    )


def _offer(offer: Offer) -> OfferRead:
    policy, scale = offer.scoring.policy, offer.scoring.scale
    return OfferRead(
        name=offer.manifest.name,
        description=offer.manifest.description,
        features=[feature_read(feature) for feature in offer.manifest.specification.features],
        blinding_bits=scale.blinding_bits,
        policy=PolicyRead.model_validate(policy),
        in_words=policy_in_words(policy, scale.blinding_bits),
        decisions=[_decision(decision) for decision in decisions_by_band(policy, offer.scoring.calibration)],
        gives_reasons=bool(policy.reasons),
    )


def _decision(decision: Decision) -> BandDecisionRead:
    return BandDecisionRead(band=decision.band, pd_bps=decision.pd_bps, decision=_word(decision), rate_bps=decision.rate_bps)


def _word(decision: Decision) -> DecisionWord:
    return DecisionWord.APPROVE if decision.approved else DecisionWord.DECLINE


def _quote(quote: Quote | None) -> QuoteRead | None:
    if quote is None:
        return None
    decision = quote.decision
    return QuoteRead(
        decision=_word(decision),
        band=decision.band,
        pd_bps=decision.pd_bps,
        rate_bps=decision.rate_bps,
        valid_until=quote.valid_until,
        reasons=list(quote.reasons),
    )


def _application(world: World, row: Application, transactions: Sequence[OutgoingTransaction]) -> ApplicationRead:
    return ApplicationRead(
        id=row.id,
        deployment_id=row.deployment_id,
        model_id=row.model_id,
        mode=ApplicationMode(row.mode),
        state=ApplicationState(row.state),
        reason=row.reason,
        fee_wei=row.fee,
        query_digest=row.query_digest,
        request_id=row.request_id,
        deadline=row.deadline,
        answer_digest=row.answer_digest,
        quote=_quote(quote_of(world.vault, row)),
        transactions=[
            TransactionRead(purpose=one.purpose, state=one.state, transaction_hash=one.transaction_hash, reason=one.failure)
            for one in transactions
        ],
        features_kept=row.erased_at is None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
