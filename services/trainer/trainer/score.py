"""One score query, as PROTOCOL §10 writes it down. Pure: features in, an artifact out.

q = Π_j W_j^{x_j} · Enc(R·2^t; fresh r)      with x encoded exactly as in training and rounded to the scoring scale
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hessian.artifacts.application import Opening
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.market import Market
from hessian.artifacts.score_query import ScoreQuery
from hessian.artifacts.scoring_model import ScoringModel
from hessian.identifiers import Address, ChainId, DeploymentId, Digest
from hessian.learning.application import check_canonical, encode_features
from hessian.paillier.blinding import blinded_product


@dataclass(frozen=True, repr=False)
class Applicant:
    """A borrower's features and what hides them: the salt and R inside `opening`; the key its answer is sealed to; where it asks."""

    opening: Opening
    borrower_key: bytes
    market: Market
    deployment_id: DeploymentId

    @classmethod
    def from_ticket(cls, ticket: Mapping[str, Any]) -> Applicant:
        """From a redeemed score ticket. Raises ArtifactRefused."""
        return cls(
            opening=Opening(ticket["features"], bytes.fromhex(ticket["salt"]), int(ticket["blinding"], 16)),
            borrower_key=bytes.fromhex(ticket["borrower_key"]),
            market=Market.at(ChainId(ticket["chain_id"]), Address(ticket["contract"])),
            deployment_id=DeploymentId(ticket["deployment_id"]),
        )


def score_query(manifest: ModelManifest, scoring: ScoringModel, weights: Digest, applicant: Applicant) -> ScoreQuery:
    """The applicant's query to the deployment of this scoring model: blinded and re-randomised, so no two runs give the same bytes.

    `weights`: the digest of the model's final weights. Raises CertificateRefused for a key that is not sound, ArtifactRefused for a scoring
    model of another manifest or other weights, ApplicationRefused naming the fields, BlindingRefused.
    """
    ciphertexts = scoring.check_against(manifest, weights)
    opening, key, scale = applicant.opening, manifest.public_key, scoring.scale
    check_canonical(manifest.specification, opening.features)
    manifest.verify_certificate()
    features = encode_features(scale, manifest.specification, opening.features)
    ciphertext = blinded_product(key, ciphertexts, features, opening.blinding, scale.blinding_bits)
    return ScoreQuery.seal(
        applicant.market, applicant.deployment_id, scoring.digest, opening.commitment(key), applicant.borrower_key, key, ciphertext
    )


def run(wanted: dict[str, Any]) -> bytes:
    """The job: its header decoded. Returns the artifact's bytes."""
    ticket = wanted["ticket"]
    applicant = Applicant.from_ticket(ticket)
    manifest = ModelManifest.from_bytes(base64.b64decode(wanted["manifest"]), minimum_bits=wanted["minimum_key_bits"])
    scoring = ScoringModel.from_bytes(base64.b64decode(wanted["scoring_model"]))
    return score_query(manifest, scoring, Digest(bytes.fromhex(ticket["weights_digest"])), applicant).to_bytes()
