"""The trained model in the clear, at the scoring scale: what only this program can put together, to compare every quote with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from devstack.demo.case import Table
from devstack.demo.parties import RequestRefused
from hessian.learning.calibration import CalibrationTable
from hessian.learning.features import FeatureSpecification
from hessian.learning.metrics import scores
from hessian.learning.scoring import ScoringScale
from hessian.lending.decision import Decision, decide
from hessian.lending.policy import RatePolicy


@dataclass(frozen=True)
class Clear:
    """`scaled` weights at the scoring scale, `real` in float64."""

    specification: FeatureSpecification
    scale: ScoringScale
    table: CalibrationTable
    policy: RatePolicy
    scaled: list[int]
    real: np.ndarray[tuple[int, ...], np.dtype[np.float64]]

    @classmethod
    def of(cls, deployment: dict[str, Any], weights: dict[str, Any], specification: FeatureSpecification) -> Self:
        """From lender-api's answers."""
        calibration, policy = deployment["calibration"], deployment["policy"]
        scale = ScoringScale(**calibration["scale"])
        return cls(
            specification,
            scale,
            CalibrationTable(tuple(calibration["thresholds"]), tuple(calibration["probabilities_bps"])),
            RatePolicy(**{**policy, "reasons": tuple(policy["reasons"].items())}),
            scale.weights(weights["weights"], weights["scale_bits"]),
            np.array(weights["weights"]) / 2.0 ** weights["scale_bits"],
        )

    def scores(self, rows: Table) -> list[int]:
        """At the scoring scale."""
        return scores(self.scaled, self.scale.features(self.specification, self.specification.design(rows)))

    def decide(self, score: int) -> Decision:
        """As the lender would."""
        return decide(self.policy, self.table, score)

    def unrounded(self, rows: Table, row: int) -> float:
        """The score of one row in float64."""
        one = {name: [cells[row]] for name, cells in rows.items()}
        return float((self.specification.design(one) / 2.0**self.specification.feature_bits @ self.real)[0])

    def choose(self, rows: Table) -> tuple[int, int, int, int]:
        """Test rows: safe, just inside the cutoff, just outside it, risky. Raises RequestRefused when there are none."""
        found = self.scores(rows)
        order = sorted(range(len(found)), key=found.__getitem__)
        approved = [row for row in order if self.decide(found[row]).approved]
        declined = order[len(approved) :]
        if not approved or not declined:
            raise RequestRefused("every test row falls on the same side of the cutoff: there is nothing to compare")
        return approved[len(approved) // 4], approved[-1], declined[0], declined[-1]
