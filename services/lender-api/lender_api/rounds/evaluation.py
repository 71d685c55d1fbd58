"""Opening a cohort's sum and taking the step: the arithmetic of one evaluation, with no I/O (PROTOCOL §3–4).

    sum_c      = Π_i ciphertext_i,c                                        product over the members
    gradient   = unpack(centre(Dec(sum_c) − Σ_i mask(u_i, c) mod n))       the cohort's mean gradient at 2^-(fA+fw)
    w'         = w − η·gradient

Content is other people's work: a sum that does not decode, or a step that leaves the model worse than its start, changes nothing and is
reported as no improvement. The lender's node never goes silent because of content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hessian.artifacts.manifest import ModelManifest
from hessian.cohorts.masks import self_masks
from hessian.identifiers import ErrorUnits
from hessian.learning.affine import descend
from hessian.learning.features import IntMatrix
from hessian.learning.metrics import validation_error
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import AggregateUndecodable, SlotLayout, unpack


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """Weights at 2^-fw and their validation error. `reason` says why an evaluation moved nothing; both are then as before."""

    weights: tuple[int, ...]
    error: ErrorUnits
    reason: str | None = None


def open_aggregate(
    private_key: PrivateKey, aggregate: Sequence[int], masks: Sequence[int], layout: SlotLayout, dimension: int
) -> list[int]:
    """The summed gradient under the masks, d integers at 2^-(fA+fw). Raises AggregateUndecodable, CiphertextRefused."""
    n = private_key.public_key.n
    plain = [centre((private_key.decrypt(ciphertext) - mask) % n, n) for ciphertext, mask in zip(aggregate, masks, strict=True)]
    return unpack(plain, layout, dimension)


def evaluate(
    manifest: ModelManifest,
    private_key: PrivateKey,
    aggregate: Sequence[int],
    seeds: Sequence[bytes],
    context: bytes,
    rows: tuple[IntMatrix, IntMatrix],
    before: Step,
) -> Step:
    """The step that a cohort's sum gives.

    `aggregate` is the product of the members' ciphertexts, `seeds` their opened self-masks by member index, `rows` the lender's own
    validation rows (X, y) as the specification makes them, `before` the weights the round started from and their error.
    """
    try:
        masks = self_masks(seeds, context, len(aggregate), private_key.public_key.n)
        gradient = open_aggregate(private_key, aggregate, masks, manifest.layout, manifest.dimension)
    except AggregateUndecodable as undecodable:
        return Step(before.weights, before.error, undecodable.sentence)
    moved = tuple(descend(before.weights, gradient, manifest.step, manifest.bounds))
    error = validation_error(moved, *rows, score_bits=manifest.score_bits)
    if error > max(before.error, manifest.terms.initial_error):
        return Step(before.weights, before.error, f"the step would leave an error of {error}, worse than the model's start: not taken")
    return Step(moved, error)
