"""What a borrower can apply to: deployments as a final block has them, with manifests and scoring models that this node verified itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.scoring_model import ScoringModel
from hessian.chain.deployment_records import DeploymentRecord
from hessian.errors import Conflict, Refused
from hessian.identifiers import DeploymentId, Digest
from hessian.lending.decision import decisions_by_band
from owner_api.catalogue.service import ManifestNotUsable, ensure_listed, require_listing
from owner_api.world import World

log = structlog.get_logger()
MOST_KEPT = 64

LEAST_VALID_SECONDS = 600
"""How long a borrower must be able to accept a quote that it sees."""

_LONGEST_DELAY = 3_600


class ScoringModelNotUsable(Conflict):
    """The deployment's scoring model was refused: this node sends nothing to it."""


class DeploymentNotServing(Conflict):
    """This node does not apply to this deployment."""


@dataclass(frozen=True)
class Offer:
    """A deployment this node could apply to, and what it has against doing so."""

    deployment_id: DeploymentId
    record: DeploymentRecord
    manifest: ModelManifest
    manifest_bytes: bytes
    scoring: ScoringModel
    scoring_bytes: bytes
    objections: tuple[str, ...]

    @property
    def lender_key(self) -> Digest:
        """Names the lender's Paillier key: quotes are counted per key."""
        return self.manifest.public_key.digest


async def view_offer(world: World, deployment_id: DeploymentId) -> Offer:
    """A deployment at the final block. The caller holds no session: content is waited for.

    Raises DeploymentUnknown, ManifestNotUsable, ScoringModelNotUsable, Unavailable.
    """
    final = await world.chain.final_block()
    record = await world.deployment.deployment(deployment_id, final)
    model = await world.repository.model(record.model_id, final)
    await ensure_listed(world, record.model_id)
    async with world.database.begin() as session:
        listing = await require_listing(session, world, record.model_id)
    if listing.manifest_digest != model.manifest_digest:
        raise ManifestNotUsable(f"the catalogue holds another manifest than the chain names for model {record.model_id}")
    scoring, data = await _verified_scoring(world, deployment_id, record, listing.manifest)
    objections = []
    head = await world.chain.head_block()
    unseen = min(_LONGEST_DELAY, head.timestamp - final.timestamp)  # a quote holds from its answer on, which is seen once it is final
    if scoring.policy.quote_valid_seconds < unseen + LEAST_VALID_SECONDS:
        objections.append(
            f"its quotes hold for {scoring.policy.quote_valid_seconds} seconds: an answer is final after about {unseen}, and a borrower "
            f"needs {LEAST_VALID_SECONDS} more to accept it"
        )
    if record.is_retired:
        objections.append("it is retired and takes no new requests")
    if not model.is_trained or model.weights_digest != record.weights_digest:
        objections.append("its model is not trained, or was deployed before its training ended")
    if model.lender != record.lender:
        objections.append("it was deployed by somebody else than the model's lender")
    if not any(decision.approved for decision in decisions_by_band(scoring.policy, scoring.calibration)):
        objections.append("its policy makes no sense for a borrower: it approves nobody")
    return Offer(deployment_id, record, listing.manifest, listing.manifest_bytes, scoring, data, tuple(objections))


async def require_offer(world: World, deployment_id: int) -> Offer:
    """As `view_offer`. Raises DeploymentNotServing when this node objects."""
    offer = await view_offer(world, DeploymentId(deployment_id))
    if offer.objections:
        raise DeploymentNotServing(f"this node does not apply to deployment {deployment_id}: " + "; ".join(offer.objections))
    return offer


async def _verified_scoring(
    world: World, deployment_id: DeploymentId, record: DeploymentRecord, manifest: ModelManifest
) -> tuple[ScoringModel, bytes]:
    """The scoring model behind the digest on chain: its t, scale, calibration and policy were checked when it was read.

    Raises ScoringModelNotUsable, IpfsUnavailable: content that cannot be had is not content that is bad.
    """
    if deployment_id not in world.scoring_models:
        data = await world.store.get(record.scoring_digest)
        try:
            scoring = await asyncio.to_thread(_verified, data, manifest, record.weights_digest)
        except Refused as refusal:
            log.warning("scoring_model_refused", deployment_id=int(deployment_id), reason=refusal.sentence)
            raise ScoringModelNotUsable(f"this node does not work with deployment {deployment_id}: {refusal.sentence}") from refusal
        while len(world.scoring_models) >= MOST_KEPT:
            world.scoring_models.pop(next(iter(world.scoring_models)))
        world.scoring_models[deployment_id] = scoring, data
    return world.scoring_models[deployment_id]


def _verified(data: bytes, manifest: ModelManifest, weights_digest: Digest) -> ScoringModel:
    """Raises ArtifactRefused."""
    scoring = ScoringModel.from_bytes(data)
    scoring.check_against(manifest, weights_digest)
    return scoring
