"""The round report: what the lender says came of a round (PROTOCOL §8). Never the aggregate in clear: it is the model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode_artifact, refusals
from hessian.artifacts.gradient import CONTEXT_BYTES
from hessian.identifiers import DIGEST_BYTES, Digest, ErrorUnits
from hessian.learning.objective import LARGEST_STEP
from hessian.learning.plain import Plain
from hessian.paillier.keys import PublicKey
from hessian.paillier.wire import ciphertexts_to_bytes

KIND, VERSION = "hessian/round-report", 1


def aggregate_digest(public_key: PublicKey, ciphertexts: Sequence[int]) -> Digest:
    """The name of the product of the members' ciphertexts, which anyone can compute again: sha2-256 of their joined wire bytes."""
    return Digest(hashlib.sha256(b"".join(ciphertexts_to_bytes(public_key, ciphertexts))).digest())


@dataclass(frozen=True)
class RoundReport:
    """`new_error` in billionths; `step` η at 2^-32, 0 when the weights stayed as they were; `aggregate` as `aggregate_digest` gives it;
    `weights` the digest of the weights after the round.
    """

    context: bytes
    new_error: ErrorUnits
    step: int
    aggregate: Digest
    weights: Digest

    def check_against(self, context: bytes, new_error: ErrorUnits, weights: Digest) -> None:
        """The report says what the chain says. Raises ArtifactRefused."""
        if (self.context, self.new_error, self.weights) != (context, new_error, weights):
            raise ArtifactRefused("the report does not say what was reported on chain")

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        fields: dict[str, Plain] = {
            "context": self.context,
            "new_error": self.new_error,
            "step": self.step,
            "aggregate": self.aggregate,
            "weights": self.weights,
        }
        return encode_artifact(KIND, VERSION, fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> RoundReport:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            report = cls(
                context=fields.octets("context", CONTEXT_BYTES),
                new_error=ErrorUnits(fields.integer("new_error", 0, 2**64 - 1)),
                step=fields.integer("step", 0, LARGEST_STEP),
                aggregate=Digest(fields.octets("aggregate", DIGEST_BYTES)),
                weights=Digest(fields.octets("weights", DIGEST_BYTES)),
            )
            fields.done()
            return report
