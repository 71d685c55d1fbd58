"""A score query: the one ciphertext a borrower sends, and its promise to stand by the features behind it (PROTOCOL §8, §10)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hessian.artifacts.application import COMMITMENT_BYTES
from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode_artifact, refusals
from hessian.artifacts.market import Market
from hessian.identifiers import DIGEST_BYTES, DeploymentId, Digest, digest_of
from hessian.learning.plain import LARGEST_INTEGER, Plain
from hessian.lending.sealing import KEY_BYTES
from hessian.paillier.keys import MAXIMUM_BITS, PublicKey
from hessian.paillier.wire import ciphertexts_from_bytes, ciphertexts_to_bytes

KIND, VERSION = "hessian/score-query", 1


@dataclass(frozen=True)
class ScoreQuery:
    """`scoring`: the digest of the scoring model it was made with; `commitment` as `Opening.commitment` gives it; `borrower_key`: the
    X25519 key that the answer is sealed to. Untrusted bytes until `check_against`.
    """

    market: Market
    deployment_id: DeploymentId
    scoring: Digest
    commitment: bytes
    borrower_key: bytes
    ciphertext: bytes

    @classmethod
    def seal(
        cls,
        market: Market,
        deployment_id: DeploymentId,
        scoring: Digest,
        commitment: bytes,
        borrower_key: bytes,
        public_key: PublicKey,
        ciphertext: int,
    ) -> ScoreQuery:
        """The artifact of a freshly blinded and re-randomised ciphertext. Raises ArtifactRefused."""
        with refusals():
            [octets] = ciphertexts_to_bytes(public_key, [ciphertext])
        return cls(market, deployment_id, scoring, commitment, borrower_key, octets)

    @cached_property
    def digest(self) -> Digest:
        """What the contract anchors."""
        return digest_of(self.to_bytes())

    def check_against(self, market: Market, deployment_id: DeploymentId, scoring: Digest, public_key: PublicKey) -> int:
        """The checked ciphertext of a query to this deployment. Raises ArtifactRefused."""
        if (self.market, self.deployment_id) != (market, deployment_id):
            raise ArtifactRefused("the query was made for another deployment")
        if self.scoring != scoring:
            raise ArtifactRefused("the query was made with another scoring model")
        with refusals():
            return ciphertexts_from_bytes(public_key, [self.ciphertext])[0]

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        fields: dict[str, Plain] = {
            **self.market.to_plain(),
            "deployment_id": self.deployment_id,
            "scoring": self.scoring,
            "commitment": self.commitment,
            "borrower_key": self.borrower_key,
            "ciphertext": self.ciphertext,
        }
        return encode_artifact(KIND, VERSION, fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> ScoreQuery:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            query = cls(
                market=Market.from_fields(fields),
                deployment_id=DeploymentId(fields.integer("deployment_id", 1, LARGEST_INTEGER)),
                scoring=Digest(fields.octets("scoring", DIGEST_BYTES)),
                commitment=fields.octets("commitment", COMMITMENT_BYTES),
                borrower_key=fields.octets("borrower_key", KEY_BYTES),
                ciphertext=fields.octets("ciphertext", 2 * MAXIMUM_BITS // 8, shortest=1),
            )
            fields.done()
            return query
