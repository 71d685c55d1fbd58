"""What answering needs of one deployment, opened once: key, weights at the scoring scale, calibration, policy. Pure but for the opening."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from hessian.artifacts.application import Opening
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.market import Market
from hessian.artifacts.score_query import ScoreQuery
from hessian.errors import Malformed, Violated
from hessian.identifiers import DeploymentId, Digest
from hessian.learning.application import check_canonical, encode_features
from hessian.learning.calibration import CalibrationTable
from hessian.learning.metrics import scores
from hessian.learning.scoring import ScoringScale
from hessian.lending.policy import RatePolicy
from hessian.paillier.decryption import PrivateKey
from hessian.postgres.session import Session
from lender_api.models.service import manifest_of
from lender_api.rounds.history import weights_of
from lender_api.tables import Deployment, Model, ModelKey
from lender_api.world import World


@dataclass(frozen=True, slots=True, repr=False)
class Served:
    """One deployment. `weights`: integers at the scoring scale, in plain; they and the key never leave this process."""

    model: uuid.UUID
    market: Market
    deployment_id: DeploymentId
    scoring: Digest
    manifest: ModelManifest
    private_key: PrivateKey
    weights: tuple[int, ...]
    scale: ScoringScale
    table: CalibrationTable
    policy: RatePolicy

    def encoded(self, features: Mapping[str, str]) -> list[int]:
        """x of canonical features. Raises ApplicationRefused."""
        check_canonical(self.manifest.specification, features)
        return encode_features(self.scale, self.manifest.specification, features)

    def score_of(self, entries: list[int]) -> int:
        """Σ w·x, exactly."""
        return scores(self.weights, np.array([entries], dtype=np.int64))[0]

    def ciphertext_of(self, query: ScoreQuery) -> int:
        """The checked ciphertext of a query to this deployment. Raises ArtifactRefused."""
        return query.check_against(self.market, self.deployment_id, self.scoring, self.manifest.public_key)

    def is_committed_to(self, query: ScoreQuery, opening: Opening) -> bool:
        """Whether these features, this salt and this R are what the query promises.

        Compared before `is_opening_of`: nothing is decrypted for anybody who did not make the query, and a query has one opening that
        reaches the key, so that asking again tells nothing new.
        """
        try:
            return opening.commitment(self.manifest.public_key) == query.commitment
        except Malformed:
            return False

    def is_opening_of(self, query: ScoreQuery, opening: Opening) -> bool:
        """Whether the query's ciphertext was made of the opening that it promises. Decrypts."""
        try:
            score = self.score_of(self.encoded(opening.features))
            return self.private_key.opens_blinded(self.ciphertext_of(query), score, opening.blinding, self.scale.blinding_bits)
        except Malformed:
            return False


async def served_by(session: Session, world: World, deployment: Deployment) -> Served:
    """From the cache, or opened now. Raises KeyLost."""
    if deployment.id not in world.served:
        world.served[deployment.id] = await _open(session, world, deployment)
    return world.served[deployment.id]


async def _open(session: Session, world: World, deployment: Deployment) -> Served:
    if deployment.deployment_id is None or deployment.scoring_digest is None:
        raise Violated(f"deployment {deployment.id} is asked for scores before it is on chain")
    model = (await session.execute(select(Model).where(Model.id == deployment.model))).scalar_one()
    key = (await session.execute(select(ModelKey).where(ModelKey.model == model.id))).scalar_one()
    manifest = await manifest_of(session, world, model)
    scale = ScoringScale.from_plain(deployment.scale)
    weights = world.keys.open_weights(await weights_of(session, model, deployment.weights_digest))
    return Served(
        model=model.id,
        market=Market.at(world.chain.chain_id, world.deployment.address),
        deployment_id=DeploymentId(deployment.deployment_id),
        scoring=deployment.scoring_digest,
        manifest=manifest,
        private_key=world.keys.open_private_key(key),
        weights=tuple(scale.weights(weights, manifest.bounds.weight_bits)),
        scale=scale,
        table=CalibrationTable.from_plain(deployment.calibration),
        policy=RatePolicy.from_plain(deployment.policy),
    )
