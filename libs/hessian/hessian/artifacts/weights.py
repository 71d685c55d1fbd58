"""Encrypted weights: what a round starts from and what it leaves behind, anchored as the model's weightsDigest (PROTOCOL §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode_artifact, refusals
from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import DIGEST_BYTES, Digest
from hessian.learning.features import LARGEST_DIMENSION
from hessian.paillier.wire import ciphertexts_from_bytes, ciphertexts_to_bytes

KIND, VERSION = "hessian/encrypted-weights", 1


@dataclass(frozen=True)
class EncryptedWeights:
    """Weights number `version` (0: the initial ones). `parent`: the digest of version − 1, or the manifest's for version 0.

    The ciphertexts are untrusted bytes until `check_against` has opened them.
    """

    version: int
    parent: Digest
    ciphertexts: tuple[bytes, ...]

    @classmethod
    def seal(cls, manifest: ModelManifest, version: int, parent: Digest, ciphertexts: Sequence[int]) -> EncryptedWeights:
        """The artifact of freshly encrypted weights. Raises ArtifactRefused."""
        with refusals():
            weights = cls(version, parent, tuple(ciphertexts_to_bytes(manifest.public_key, ciphertexts)))
        weights.check_against(manifest)
        return weights

    def check_against(self, manifest: ModelManifest) -> list[int]:
        """d checked ciphertexts under the manifest's key. Raises ArtifactRefused."""
        if len(self.ciphertexts) != manifest.dimension:
            raise ArtifactRefused(f"the weights have {len(self.ciphertexts)} ciphertexts, the model {manifest.dimension} features")
        if self.version == 0 and self.parent != manifest.digest:
            raise ArtifactRefused("the initial weights do not belong to this manifest")
        with refusals():
            return ciphertexts_from_bytes(manifest.public_key, self.ciphertexts)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return encode_artifact(KIND, VERSION, {"weights_version": self.version, "parent": self.parent, "ciphertexts": self.ciphertexts})

    @classmethod
    def from_bytes(cls, data: bytes) -> EncryptedWeights:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            weights = cls(
                version=fields.integer("weights_version", 0, 2**32 - 1),
                parent=Digest(fields.octets("parent", DIGEST_BYTES)),
                ciphertexts=fields.octet_strings("ciphertexts", LARGEST_DIMENSION),
            )
            fields.done()
            return weights
