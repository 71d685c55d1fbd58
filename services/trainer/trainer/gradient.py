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
from hessian.learning.affine import check_statistics, gradient_map
from hessian.learning.statistics import SufficientStatistics
from hessian.paillier.ciphertext import affine_map
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
    manifest: ModelManifest, weights: EncryptedWeights, statistics: SufficientStatistics, membership: Membership
) -> MaskedGradient:
    """The member's share of the cohort's mean gradient, masked and re-randomised: no two runs give the same ciphertexts.

    Raises ArtifactRefused for weights that are not this manifest's, StatisticsRefused for statistics outside its bounds, SlotOverflow when
    a bound does not hold all the same.
    """
    encrypted = weights.check_against(manifest)
    check_statistics(statistics, manifest.specification, manifest.bounds)
    gradient = gradient_map(statistics, membership.total_rows, manifest.specification.feature_bits, manifest.bounds)
    multipliers = pack_columns(gradient.matrix, manifest.layout)
    offsets = _masked(pack([-offset for offset in gradient.offset], manifest.layout), membership, manifest.public_key.n)
    ciphertexts = affine_map(manifest.public_key, encrypted, multipliers, offsets)
    return MaskedGradient.seal(manifest, membership.context, membership.index, ciphertexts)


def _masked(plaintexts: Sequence[int], membership: Membership, modulus: int) -> list[int]:
    masks = membership.masks(len(plaintexts), modulus)
    return [centre((plaintext + mask) % modulus, modulus) for plaintext, mask in zip(plaintexts, masks, strict=True)]


def run(wanted: dict[str, Any]) -> bytes:
    """The job: its header decoded. Returns the artifact's bytes."""
    ticket = wanted["ticket"]
    membership = Membership(
        index=ticket["member_index"],
        total_rows=ticket["total_rows"],
        context=bytes.fromhex(ticket["context"]),
        pair_masks=tuple((mask["sign"], bytes.fromhex(mask["secret"])) for mask in ticket["pair_masks"]),
        self_mask=bytes.fromhex(ticket["self_mask"]),
    )
    manifest = ModelManifest.from_bytes(base64.b64decode(wanted["manifest"]), minimum_bits=wanted["minimum_key_bits"])
    weights = EncryptedWeights.from_bytes(base64.b64decode(wanted["weights"]))
    return gradient_step(manifest, weights, SufficientStatistics.from_plain(ticket["statistics"]), membership).to_bytes()
