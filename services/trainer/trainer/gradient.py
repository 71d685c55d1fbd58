"""One masked gradient, as PROTOCOL §3 and §4 write it down. Pure: numbers in, an artifact out.

cᵢ = Π_j W_j ^ P_j · Enc(−bᵢ packed + masks; fresh randomiser)
masks = Σ_{j>i} mask(s_ij) − Σ_{j<i} mask(s_ij) + mask(u_i)          the signs come with the secrets
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hessian.artifacts.gradient import MaskedGradient
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.weights import EncryptedWeights
from hessian.cohorts.masks import expand_mask
from hessian.learning.local_steps import member_map
from hessian.learning.statistics import SufficientStatistics
from hessian.paillier.ciphertext import affine_map, randomiser
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import pack, pack_columns


@dataclass(frozen=True, repr=False)
class Membership:
    """A member's place in one round, and what hides its gradient there: (sign, secret) for every other member, and its own seed u_i."""

    index: int
    total_rows: int
    context: bytes
    pair_masks: tuple[tuple[int, bytes], ...]
    self_mask: bytes

    def masks(self, ciphertexts: int, modulus: int) -> list[int]:
        """What is added to each plaintext, mod n."""
        signed = [*self.pair_masks, (1, self.self_mask)]
        return [sum(sign * expand_mask(secret, self.context, c, modulus) for sign, secret in signed) % modulus for c in range(ciphertexts)]


def gradient_step(
    manifest: ModelManifest,
    weights: EncryptedWeights,
    statistics: SufficientStatistics,
    membership: Membership,
    *,
    randomisers: Sequence[int] | None = None,
) -> MaskedGradient:
    """The member's share of the cohort's mean gradient, masked and re-randomised: no two runs give the same ciphertexts.

    `randomisers` were made ahead of time for these ciphertexts and serve nothing else.

    Raises ArtifactRefused for weights that are not this manifest's, StatisticsRefused for statistics outside its bounds, SlotOverflow when
    a bound does not hold all the same.
    """
    encrypted = weights.check_against(manifest)
    manifest.check_statistics(statistics)
    own = member_map(
        statistics, membership.total_rows, manifest.specification.feature_bits, manifest.bounds, manifest.objective, manifest.step
    )
    multipliers = pack_columns(own.matrix, manifest.layout)
    offsets = _masked(pack([-offset for offset in own.offset], manifest.layout), membership, manifest.public_key.n)
    ciphertexts = affine_map(manifest.public_key, encrypted, multipliers, offsets, randomisers)
    return MaskedGradient.seal(manifest, membership.context, membership.index, ciphertexts)


def _masked(plaintexts: Sequence[int], membership: Membership, modulus: int) -> list[int]:
    masks = membership.masks(len(plaintexts), modulus)
    return [centre((plaintext + mask) % modulus, modulus) for plaintext, mask in zip(plaintexts, masks, strict=True)]


@dataclass(frozen=True, repr=False)
class Prepared:
    """Randomisers for one step under one key, made while nobody waited. They live and die with the process that serves that step."""

    modulus: int
    randomisers: tuple[int, ...]


def prepare(wanted: dict[str, Any]) -> Prepared:
    """Make ready what a step of this manifest's model needs and what depends on nothing else."""
    manifest = _manifest(wanted)
    key = manifest.public_key
    return Prepared(key.n, tuple(randomiser(key) for _ in range(manifest.gradient_ciphertexts)))


def run(wanted: dict[str, Any], prepared: Prepared | None = None) -> bytes:
    """The job: its header decoded. Returns the artifact's bytes. What was prepared for another model is left alone."""
    ticket = wanted["ticket"]
    membership = Membership(
        index=ticket["member_index"],
        total_rows=ticket["total_rows"],
        context=bytes.fromhex(ticket["context"]),
        pair_masks=tuple((mask["sign"], bytes.fromhex(mask["secret"])) for mask in ticket["pair_masks"]),
        self_mask=bytes.fromhex(ticket["self_mask"]),
    )
    manifest = _manifest(wanted)
    weights = EncryptedWeights.from_bytes(base64.b64decode(wanted["weights"]))
    statistics = SufficientStatistics.from_plain(ticket["statistics"])
    fits = prepared is not None and prepared.modulus == manifest.public_key.n and len(prepared.randomisers) == manifest.gradient_ciphertexts
    randomisers = prepared.randomisers if prepared is not None and fits else None
    return gradient_step(manifest, weights, statistics, membership, randomisers=randomisers).to_bytes()


def _manifest(wanted: dict[str, Any]) -> ModelManifest:
    return ModelManifest.from_bytes(base64.b64decode(wanted["manifest"]), minimum_bits=wanted["minimum_key_bits"])
