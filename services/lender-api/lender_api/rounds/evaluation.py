"""Opening a cohort's sum and taking the step: the arithmetic of one evaluation, with no I/O (PROTOCOL §3–4).

    sum_c      = Π_i ciphertext_i,c                                        product over the members
    gradient   = unpack(centre(Dec(sum_c) − Σ_i mask(u_i, c) mod n))       the cohort's mean gradient at 2^-(fA+fw)
    w'         = w − η·gradient                                             or as the manifest's method says; with local steps the sum is w'

Content is other people's work: a sum that does not decode, or a step that leaves the model worse than its start, changes nothing and is
reported as no improvement. The lender's node never goes silent because of content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hessian.artifacts.manifest import ModelManifest
from hessian.cohorts.masks import self_masks
from hessian.identifiers import ErrorUnits
from hessian.learning.affine import descend, settle
from hessian.learning.descent import Answered, minimiser, search
from hessian.learning.features import IntMatrix
from hessian.learning.metrics import validation_error
from hessian.paillier.decryption import PrivateKey
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import AggregateUndecodable, SlotLayout, unpack


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """Weights at 2^-fw and their validation error. `reason` says why an evaluation moved nothing; both are then as before.

    `size` is the η that was taken, at 2^-32, and `opened` what the sum held, at 2^-(fA+fw); both only of a step that moved.
    """

    weights: tuple[int, ...]
    error: ErrorUnits
    reason: str | None = None
    size: int = 0
    opened: tuple[int, ...] = ()


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
    answered: Sequence[Answered] = (),
) -> Step:
    """The step that a cohort's sum gives.

    `aggregate` is the product of the members' ciphertexts, `seeds` their opened self-masks by member index, `rows` the lender's own
    validation rows (X, y) as the specification makes them, `before` the weights the round started from and their error, `answered` the
    cohort's earlier weights and the gradients opened for them, oldest first: conjugate gradients go on from there.
    """
    try:
        masks = self_masks(seeds, context, len(aggregate), private_key.public_key.n)
        opened = open_aggregate(private_key, aggregate, masks, manifest.layout, manifest.dimension)
    except AggregateUndecodable as undecodable:
        return Step(before.weights, before.error, undecodable.sentence)
    moved, size = _move(manifest, opened, rows, before, answered)
    error = _error(manifest, moved, rows)
    if error > max(before.error, manifest.terms.initial_error):
        return Step(before.weights, before.error, f"the step would leave an error of {error}, worse than the model's start: not taken")
    return Step(tuple(moved), error, size=size, opened=tuple(opened))


def _move(
    manifest: ModelManifest, opened: Sequence[int], rows: tuple[IntMatrix, IntMatrix], before: Step, answered: Sequence[Answered]
) -> tuple[list[int], int]:
    """(weights, η at 2^-32)."""
    bounds, step, objective = manifest.bounds, manifest.step, manifest.objective
    if objective.local_steps > 1:
        return settle(opened, bounds), step
    if objective.method == "fixed":
        return descend(before.weights, opened, step, bounds), step
    start: Answered = (before.weights, opened)
    if objective.method == "conjugate-gradients":
        start = minimiser(answered, start, bounds)
    return search(*start, step, bounds, lambda weights: _error(manifest, weights, rows))


def _error(manifest: ModelManifest, weights: Sequence[int], rows: tuple[IntMatrix, IntMatrix]) -> ErrorUnits:
    return validation_error(weights, *rows, score_bits=manifest.score_bits, objective=manifest.objective)
