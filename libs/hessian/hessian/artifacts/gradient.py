"""A masked gradient: one member's contribution to one round (PROTOCOL §8). It says nothing before every member has unlocked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode_artifact, refusals
from hessian.artifacts.manifest import ModelManifest
from hessian.learning.features import LARGEST_DIMENSION
from hessian.paillier.wire import ciphertexts_from_bytes, ciphertexts_to_bytes

KIND, VERSION = "hessian/masked-gradient", 1
CONTEXT_BYTES = 32


@dataclass(frozen=True)
class MaskedGradient:
    """`context` binds it to the round, `member_index` to the member's place in the cohort. Untrusted bytes until `check_against`."""

    context: bytes
    member_index: int
    ciphertexts: tuple[bytes, ...]

    @classmethod
    def seal(cls, manifest: ModelManifest, context: bytes, member_index: int, ciphertexts: Sequence[int]) -> MaskedGradient:
        """The artifact of freshly randomised ciphertexts. Raises ArtifactRefused."""
        with refusals():
            gradient = cls(context, member_index, tuple(ciphertexts_to_bytes(manifest.public_key, ciphertexts)))
        gradient.check_against(manifest, context, member_index)
        return gradient

    def check_against(self, manifest: ModelManifest, context: bytes, member_index: int) -> list[int]:
        """The checked ciphertexts of this round and member, as many as the layout says. Raises ArtifactRefused."""
        if self.context != context or len(context) != CONTEXT_BYTES:
            raise ArtifactRefused("the masked gradient belongs to another round")
        if self.member_index != member_index:
            raise ArtifactRefused("the masked gradient belongs to another member")
        if len(self.ciphertexts) != manifest.gradient_ciphertexts:
            raise ArtifactRefused(f"the masked gradient has {len(self.ciphertexts)} ciphertexts instead of {manifest.gradient_ciphertexts}")
        with refusals():
            return ciphertexts_from_bytes(manifest.public_key, self.ciphertexts)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return encode_artifact(KIND, VERSION, {"context": self.context, "member_index": self.member_index, "ciphertexts": self.ciphertexts})

    @classmethod
    def from_bytes(cls, data: bytes) -> MaskedGradient:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            gradient = cls(
                context=fields.octets("context", CONTEXT_BYTES),
                member_index=fields.integer("member_index", 0, 2**16 - 1),
                ciphertexts=fields.octet_strings("ciphertexts", LARGEST_DIMENSION),
            )
            fields.done()
            return gradient
