"""The model manifest: everything public about a model, anchored on chain when it is created (PROTOCOL §8).

It is immutable, and every node works from it alone: the feature specification, the objective, the fixed point and its bounds, the lender's
Paillier key with its certificate, the terms in short. A manifest that contradicts itself (bounds that do not cover the specification or do
not fit the key, artifacts that could not be published) is refused when it is made, and again wherever it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hessian.artifacts.codec import LARGEST_ARTIFACT, ArtifactRefused, decode_artifact, encode_artifact, refusals
from hessian.artifacts.terms import ChainTerms, TermsSummary
from hessian.identifiers import Digest, digest_of
from hessian.learning.affine import FixedPointBounds, check_statistics
from hessian.learning.decisions import MOST_DECISIONS, Decision, decisions_from_plain, decisions_to_plain
from hessian.learning.features import FeatureSpecification
from hessian.learning.metrics import METRICS
from hessian.learning.objective import LARGEST_STEP, SQUARED, Objective
from hessian.learning.plain import Fields, Plain
from hessian.learning.statistics import SufficientStatistics
from hessian.paillier.certificate import ROOTS, KeyCertificate, verify_certificate
from hessian.paillier.keys import MAXIMUM_BITS, MINIMUM_BITS, PublicKey
from hessian.paillier.packing import SlotLayout, slot_layout
from hessian.privacy.noise import check_noised
from hessian.privacy.requirement import PrivacyRequirement

KIND, VERSION = "hessian/model-manifest", 2
NO_PRIVACY, DIFFERENTIAL_PRIVACY = "none", "differential-privacy"
LONGEST_NAME, LONGEST_DESCRIPTION = 200, 4_000
_BESIDE_CIPHERTEXTS = 1 << 10
_CIPHERTEXT_HEAD = 3


@dataclass(frozen=True)
class ModelManifest:
    """A model as its lender publishes it. `step` is η at 2^-32; `public_key` has passed `PublicKey.from_modulus`.

    The certificate is carried, not verified: `verify_certificate` costs seven exponentiations, which the node about to join asks for.
    """

    name: str
    description: str
    specification: FeatureSpecification
    bounds: FixedPointBounds
    step: int
    public_key: PublicKey
    certificate: KeyCertificate
    terms: TermsSummary
    objective: Objective = SQUARED
    metric: str = "squared-error"
    privacy: PrivacyRequirement | None = None
    preparation: tuple[Decision, ...] = ()

    def __post_init__(self) -> None:
        with refusals():
            if self.metric not in METRICS:
                raise ArtifactRefused(f"the metric must be one of {', '.join(METRICS)}")
            if not 1 <= self.step <= LARGEST_STEP:
                raise ArtifactRefused(f"the step must lie between 1 and {LARGEST_STEP}")
            if self.privacy is None and not self.bounds.covers(self.specification, self.objective, self.step):
                raise ArtifactRefused("the bounds are narrower than the specification allows rows to be")
            if self.privacy is not None and not self.privacy.covered_by(self.bounds, self.specification, self.objective, self.step):
                raise ArtifactRefused("the bounds are narrower than the clip norm allows noised statistics to be")
            self.layout.ciphertexts(self.dimension)  # raises where not even one slot fits the key
            if self.dimension * (self.public_key.ciphertext_bytes + _CIPHERTEXT_HEAD) + _BESIDE_CIPHERTEXTS > LARGEST_ARTIFACT:
                raise ArtifactRefused(f"{self.dimension} ciphertexts under this key do not fit one artifact of {LARGEST_ARTIFACT} bytes")

    @property
    def dimension(self) -> int:
        """d, the length of the weights."""
        return self.specification.dimension

    @cached_property
    def layout(self) -> SlotLayout:
        """How gradient entries lie in a plaintext, for the terms' cohort size."""
        return slot_layout(self.public_key.bits, bound=self.bounds.slot_bound(self.terms.cohort_size, self.dimension))

    @property
    def gradient_ciphertexts(self) -> int:
        """How many ciphertexts a masked gradient has."""
        return self.layout.ciphertexts(self.dimension)

    @property
    def score_bits(self) -> int:
        """A score w·φ(x) is an integer at 2^-score_bits."""
        return self.bounds.weight_bits + self.specification.feature_bits

    @cached_property
    def digest(self) -> Digest:
        """What the contract anchors."""
        return digest_of(self.to_bytes())

    def verify_certificate(self) -> None:
        """The key is sound: gcd(n, φ(n)) = 1. Raises CertificateRefused."""
        verify_certificate(self.public_key, self.certificate)

    def check_statistics(self, statistics: SufficientStatistics) -> None:
        """Could a member of this model have these, noise included where it is required? Its bounds then hold. Raises StatisticsRefused."""
        if self.privacy is None:
            check_statistics(statistics, self.specification)
        else:
            check_noised(statistics, self.privacy, self.specification)

    def check_against(self, terms: ChainTerms) -> None:
        """The manifest repeats exactly the contract's terms. Raises ArtifactRefused."""
        if self.terms != TermsSummary.of(terms):
            raise ArtifactRefused("the manifest's terms are not the contract's")

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return encode_artifact(
            KIND,
            VERSION,
            {
                "name": self.name,
                "description": self.description,
                "specification": self.specification.to_plain(),
                "objective": self.objective.to_plain(),
                "step": self.step,
                "bounds": self.bounds.to_plain(),
                "modulus": self.public_key.modulus_bytes,
                "certificate": self.certificate.to_byte_strings(),
                "terms": self.terms.to_plain(),
                "metric": self.metric,
                "privacy": _privacy_to_plain(self.privacy),
                "preparation": decisions_to_plain(self.preparation),
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, minimum_bits: int = MINIMUM_BITS) -> ModelManifest:
        """Read foreign bytes of the right digest. `minimum_bits` below the default is for tests only. Raises ArtifactRefused."""
        with refusals():
            fields = decode_artifact(data, KIND, VERSION)
            modulus = fields.octets("modulus", MAXIMUM_BITS // 8, shortest=1)
            public_key = PublicKey.from_modulus(int.from_bytes(modulus, "big"), minimum_bits=minimum_bits)
            if modulus != public_key.modulus_bytes:
                raise ArtifactRefused("the modulus is not written in its shortest form")
            manifest = cls(
                name=fields.text("name", LONGEST_NAME),
                description=fields.text("description", LONGEST_DESCRIPTION, may_be_empty=True),
                specification=FeatureSpecification.from_plain(fields.record("specification")),
                bounds=FixedPointBounds.from_plain(fields.record("bounds")),
                step=fields.integer("step", 1, LARGEST_STEP),
                public_key=public_key,
                certificate=KeyCertificate.from_byte_strings(fields.octet_strings("certificate", ROOTS)),
                terms=TermsSummary.from_plain(fields.record("terms")),
                objective=Objective.from_plain(fields.record("objective")),
                metric=fields.text("metric"),
                privacy=_privacy_from_plain(fields.record("privacy")),
                preparation=decisions_from_plain(fields.records("preparation", MOST_DECISIONS)),
            )
            fields.done()
            return manifest


def _privacy_to_plain(privacy: PrivacyRequirement | None) -> dict[str, Plain]:
    return {"kind": NO_PRIVACY} if privacy is None else {"kind": DIFFERENTIAL_PRIVACY, **privacy.to_plain()}


def _privacy_from_plain(fields: Fields) -> PrivacyRequirement | None:
    kind = fields.text("kind")
    if kind == DIFFERENTIAL_PRIVACY:
        return PrivacyRequirement.from_plain(fields)
    if kind != NO_PRIVACY:
        raise ArtifactRefused(f"the privacy requirement must be one of {NO_PRIVACY}, {DIFFERENTIAL_PRIVACY}")
    fields.done()
    return None
