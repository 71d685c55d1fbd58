"""The scoring model: what a lender deploys, anchored as the deployment's scoringDigest (PROTOCOL §8, §10).

The final weights once more, at the scoring scale and under the manifest's key; the calibration table and the rate policy. With it anyone
knows every decision the lender can come to, and nobody else which applicant gets which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode_artifact, refusals
from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import DIGEST_BYTES, Digest, digest_of
from hessian.learning.calibration import CalibrationTable
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.plain import Plain
from hessian.learning.scoring import ScoringScale
from hessian.lending.policy import RatePolicy
from hessian.paillier.wire import ciphertexts_from_bytes, ciphertexts_to_bytes

KIND, VERSION = "hessian/scoring-model", 1


@dataclass(frozen=True)
class ScoringModel:
    """`manifest` and `weights`: the digests of the model's manifest and of its final encrypted weights, both on chain.

    The ciphertexts are untrusted bytes until `check_against` has opened them.
    """

    manifest: Digest
    weights: Digest
    scale: ScoringScale
    ciphertexts: tuple[bytes, ...]
    calibration: CalibrationTable
    policy: RatePolicy

    def __post_init__(self) -> None:
        limit = self.scale.score_limit
        if any(not -limit < threshold < limit for threshold in self.calibration.thresholds):
            raise ArtifactRefused("a threshold of the calibration is no score of this scale")

    @classmethod
    def seal(
        cls,
        manifest: ModelManifest,
        weights: Digest,
        scale: ScoringScale,
        ciphertexts: Sequence[int],
        calibration: CalibrationTable,
        policy: RatePolicy,
    ) -> ScoringModel:
        """The artifact of freshly encrypted weights at the scale. Raises ArtifactRefused."""
        with refusals():
            octets = tuple(ciphertexts_to_bytes(manifest.public_key, ciphertexts))
            scoring = cls(manifest.digest, weights, scale, octets, calibration, policy)
        scoring.check_against(manifest, weights)
        return scoring

    @cached_property
    def digest(self) -> Digest:
        """What the contract anchors."""
        return digest_of(self.to_bytes())

    def check_against(self, manifest: ModelManifest, weights: Digest) -> list[int]:
        """d checked ciphertexts under the manifest's key; the scale holds for every row, the reasons name columns. Raises ArtifactRefused.

        `weights`: the final weights' digest as the chain has it.
        """
        if self.manifest != manifest.digest:
            raise ArtifactRefused("the scoring model belongs to another manifest")
        if self.weights != weights:
            raise ArtifactRefused("the scoring model belongs to other weights than the model's final ones")
        if len(self.ciphertexts) != manifest.dimension:
            raise ArtifactRefused(f"the scoring model has {len(self.ciphertexts)} weights, the model {manifest.dimension} features")
        with refusals():
            self.scale.check_against(manifest.specification)
            self.policy.check_against([feature.name for feature in manifest.specification.features])
            return ciphertexts_from_bytes(manifest.public_key, self.ciphertexts)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        fields: dict[str, Plain] = {
            "manifest": self.manifest,
            "weights": self.weights,
            "scale": self.scale.to_plain(),
            "ciphertexts": self.ciphertexts,
            "calibration": self.calibration.to_plain(),
            "policy": self.policy.to_plain(),
        }
        return encode_artifact(KIND, VERSION, fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> ScoringModel:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            scoring = cls(
                manifest=Digest(fields.octets("manifest", DIGEST_BYTES)),
                weights=Digest(fields.octets("weights", DIGEST_BYTES)),
                scale=ScoringScale.from_plain(fields.record("scale")),
                ciphertexts=fields.octet_strings("ciphertexts", LARGEST_DIMENSION),
                calibration=CalibrationTable.from_plain(fields.record("calibration")),
                policy=RatePolicy.from_plain(fields.record("policy")),
            )
            fields.done()
            return scoring
