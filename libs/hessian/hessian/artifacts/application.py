"""What a borrower may show a lender later, or at once: the opening of a query's commitment, and the open application (PROTOCOL §10).

Neither is ever published: the borrower's own client carries them. Only their digests travel, inside a query or on chain.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hessian.artifacts.codec import ArtifactRefused, decode_artifact, encode, encode_artifact, refusals
from hessian.artifacts.market import Market
from hessian.identifiers import DeploymentId, Digest, digest_of
from hessian.learning.features import LARGEST_DIMENSION
from hessian.learning.plain import LARGEST_INTEGER, Fields, Plain
from hessian.lending.sealing import KEY_BYTES
from hessian.paillier.keys import PublicKey

KIND, VERSION = "hessian/open-application", 1
COMMITMENT_BYTES = 32
SALT_BYTES = 32
LONGEST_VALUE = 200
_COMMITMENT_DOMAIN = "hessian/application"


def fresh_salt() -> bytes:
    """What keeps a commitment to guessable features from being guessed."""
    return secrets.token_bytes(SALT_BYTES)


@dataclass(frozen=True, repr=False)
class Opening:
    """Canonical features (`read_features`), the salt, and R: all that the query's commitment was made of. Never logged."""

    features: Mapping[str, str]
    salt: bytes
    blinding: int

    def commitment(self, public_key: PublicKey) -> bytes:
        """sha2-256 of the canonical DAG-CBOR of domain, features, salt and R, R as long as the modulus. Raises ArtifactRefused."""
        if len(self.salt) != SALT_BYTES or not 0 <= self.blinding < public_key.n:
            raise ArtifactRefused(f"an opening has a salt of {SALT_BYTES} bytes and a blinding number below the modulus")
        opened: dict[str, Plain] = {
            "domain": _COMMITMENT_DOMAIN,
            "features": self.features,
            "salt": self.salt,
            "blinding": self.blinding.to_bytes(public_key.modulus_length, "big"),
        }
        return hashlib.sha256(encode(opened)).digest()


@dataclass(frozen=True, repr=False)
class OpenApplication:
    """The features in clear, for one deployment: what the digest of a request in open mode names. Never published, never logged."""

    market: Market
    deployment_id: DeploymentId
    features: Mapping[str, str]
    salt: bytes
    borrower_key: bytes

    @cached_property
    def digest(self) -> Digest:
        """What the contract anchors."""
        return digest_of(self.to_bytes())

    def check_against(self, market: Market, deployment_id: DeploymentId) -> None:
        """The application is for this deployment. Raises ArtifactRefused. Its features are still to be read with `check_canonical`."""
        if (self.market, self.deployment_id) != (market, deployment_id):
            raise ArtifactRefused("the application was made for another deployment")

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        fields: dict[str, Plain] = {
            **self.market.to_plain(),
            "deployment_id": self.deployment_id,
            "features": self.features,
            "salt": self.salt,
            "borrower_key": self.borrower_key,
        }
        return encode_artifact(KIND, VERSION, fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> OpenApplication:
        """Read foreign bytes. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            application = cls(
                market=Market.from_fields(fields),
                deployment_id=DeploymentId(fields.integer("deployment_id", 1, LARGEST_INTEGER)),
                features=_features(fields.record("features")),
                salt=fields.octets("salt", SALT_BYTES),
                borrower_key=fields.octets("borrower_key", KEY_BYTES),
            )
            fields.done()
            return application


def _features(fields: Fields) -> dict[str, str]:
    names = fields.names
    if len(names) > LARGEST_DIMENSION:
        raise ArtifactRefused(f"an application has at most {LARGEST_DIMENSION} features")
    return {name: fields.text(name, LONGEST_VALUE, may_be_empty=True) for name in names}
