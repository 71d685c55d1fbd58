"""What the lender's node does with an opened gradient: the published step grid, and conjugate gradients on one fixed cohort.

A cohort's sum is exactly affine in the weights, integers and all: gradient(w) = A·w − b with the same symmetric A in every round. So each
answered pair (w, gradient(w)) tells A along one more direction, and `minimiser` finds the least point of the span of all of them: after t
rounds the point that t steps of conjugate gradients reach (Hestenes and Stiefel, J. Res. NBS 49, 1952). The weights published next are one
step from there, which makes the next direction; no round is spent on a line search. The algebra is exact, in rationals: directions of later
rounds are nearly dependent, and floating point loses them after a few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from gmpy2 import mpq, mpz

from hessian.learning.affine import FixedPointBounds, descend
from hessian.learning.objective import LARGEST_STEP

GRID = (Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4), Fraction(8))
"""The published multiples of η that `grid` chooses from."""

Answered = tuple[Sequence[int], Sequence[int]]
"""Weights at 2^-fw and the gradient that a cohort's sum gave for them, at 2^-(fA+fw)."""

Measure = Callable[[Sequence[int]], int]


def search(weights: Sequence[int], gradient: Sequence[int], step: int, bounds: FixedPointBounds, measure: Measure) -> tuple[list[int], int]:
    """The step of the grid whose weights `measure` least (the first of equals), and its size at 2^-32."""
    sizes = [max(1, min(LARGEST_STEP, int(multiple * step))) for multiple in GRID]
    candidates = [(descend(weights, gradient, size, bounds), size) for size in sizes]
    return min(candidates, key=lambda candidate: measure(candidate[0]))


def minimiser(earlier: Sequence[Answered], newest: Answered, bounds: FixedPointBounds) -> tuple[list[int], list[int]]:
    """(weights at 2^-fw clamped to W, their gradient at 2^-(fA+fw)): the least point that a cohort's answers tell of.

    `earlier` is oldest first. An answer that no symmetric positive A explains (a member's garbage) ends the span: it and all before it are
    left out.
    """
    weights, gradient = ([mpz(entry) for entry in part] for part in newest)
    span: list[_Direction] = []
    for old_weights, old_gradient in reversed(earlier):
        direction = _Direction(
            [mpq(old - new) for old, new in zip(old_weights, weights, strict=True)],
            [mpq(old - new) for old, new in zip(old_gradient, gradient, strict=True)],
        )
        if any(_dot(direction.way, known.image) != _dot(known.way, direction.image) for known in span):
            break
        for known in span:
            direction.without(known)
        if direction.length < 0:
            break
        if direction.length > 0:
            span.append(direction)
    point, slope = [mpq(entry) for entry in weights], [mpq(entry) for entry in gradient]
    for known in span:
        part = -_dot(known.way, slope) / known.length
        point = [entry + part * step for entry, step in zip(point, known.way, strict=True)]
        slope = [entry + part * step for entry, step in zip(slope, known.image, strict=True)]
    limit = bounds.weight_limit
    return [max(-limit, min(limit, _nearest(entry))) for entry in point], [_nearest(entry) for entry in slope]


class _Direction:
    """A direction p and A·p, each at its pair's scale; `length` pᵀ·A·p."""

    def __init__(self, way: list[mpq], image: list[mpq]) -> None:
        self.way = way
        self.image = image
        self.length = _dot(way, image)

    def without(self, known: _Direction) -> None:
        """Take away what a conjugate direction already spans."""
        part = _dot(self.way, known.image) / known.length
        self.way = [entry - part * other for entry, other in zip(self.way, known.way, strict=True)]
        self.image = [entry - part * other for entry, other in zip(self.image, known.image, strict=True)]
        self.length = _dot(self.way, self.image)


def _dot(left: Sequence[mpq], right: Sequence[mpq]) -> mpq:
    return sum((a * b for a, b in zip(left, right, strict=True)), mpq(0))


def _nearest(value: mpq) -> int:
    return int((2 * value.numerator + value.denominator) // (2 * value.denominator))
