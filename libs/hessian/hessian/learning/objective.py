"""What a model minimises, and how a cohort's sum moves it there: loss, ridge term, local steps, method (PROTOCOL §3). All in the manifest.

With z = w·φ(x) and y in {0, 1}

    squared             ½·(z − y)²                                 gradient  φ·(z − y)            prediction z
    logistic-taylor1    log(1 + e^z) − y·z to second order in z    gradient  φ·(½ + z/4 − y)      prediction ½ + z/4

(the sigmoid's degree-1 Taylor polynomial: Hardy et al., arXiv:1711.10677, §3.1). Both are affine in w, with α = 1 and α = ¼:

    mean gradient = (α·G/n + ρ·I')·w − b       b = Xᵀy/n  or  h/n         I': the identity without the intercept, which no ridge term pulls
"""

from __future__ import annotations

from dataclasses import dataclass

from hessian.errors import Malformed
from hessian.learning.plain import Fields, Plain

STEP_BITS = 32  # a step η and a ridge term ρ are integers at 2^-32
LARGEST_STEP = 2**40  # η ≤ 256
LARGEST_RIDGE = 2**36  # ρ ≤ 16
LARGEST_LOCAL_STEPS = 10_000
LOSSES = ("squared", "logistic-taylor1")
METHODS = ("fixed", "grid", "conjugate-gradients")


class ObjectiveRefused(Malformed):
    """This node does not train that."""


@dataclass(frozen=True)
class Objective:
    """`loss` one of LOSSES; `ridge` ρ at 2^-32; `local_steps` K; `method` how the lender's node uses what a round opens:

    fixed                  w − η·gradient
    grid                   w − s·η·gradient, with s from descent.GRID by the validation error
    conjugate-gradients    the minimiser over everything the cohort has answered so far, then a step as by `grid`

    With K > 1 a round opens the cohort's new weights, and the method is `fixed`.
    """

    loss: str = "squared"
    ridge: int = 0
    local_steps: int = 1
    method: str = "fixed"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ObjectiveRefused(f"the loss {self.loss!r} is not supported, only {', '.join(LOSSES)}")
        if not 0 <= self.ridge <= LARGEST_RIDGE:
            raise ObjectiveRefused(f"the ridge term must lie between 0 and {LARGEST_RIDGE >> STEP_BITS}")
        if not 1 <= self.local_steps <= LARGEST_LOCAL_STEPS:
            raise ObjectiveRefused(f"local_steps must lie between 1 and {LARGEST_LOCAL_STEPS}, not {self.local_steps}")
        if self.method not in METHODS:
            raise ObjectiveRefused(f"the method {self.method!r} is not supported, only {', '.join(METHODS)}")
        if self.local_steps > 1 and self.method != "fixed":
            raise ObjectiveRefused("with local steps a round opens weights, not a gradient: the method must be 'fixed'")

    def to_plain(self) -> dict[str, Plain]:
        """A map of the four."""
        return {"loss": self.loss, "ridge": self.ridge, "local_steps": self.local_steps, "method": self.method}

    @classmethod
    def from_plain(cls, value: object, place: str = "objective") -> Objective:
        """The inverse of `to_plain`. Raises ShapeRefused, ObjectiveRefused."""
        fields = Fields.of(value, place)
        objective = cls(
            loss=fields.text("loss"),
            ridge=fields.integer("ridge", 0, LARGEST_RIDGE),
            local_steps=fields.integer("local_steps", 1, LARGEST_LOCAL_STEPS),
            method=fields.text("method"),
        )
        fields.done()
        return objective

    @property
    def is_logistic(self) -> bool:
        """Whether scores are log odds."""
        return self.loss == "logistic-taylor1"

    @property
    def curvature_quarters(self) -> int:
        """4·α."""
        return 1 if self.is_logistic else 4

    def prediction_quarters(self, score: int, one: int) -> int:
        """4·(the prediction of a score); `one` is 1 at the score's scale."""
        return score + 2 * one if self.is_logistic else 4 * score


SQUARED = Objective()
"""The default: least squares by plain gradient steps."""
