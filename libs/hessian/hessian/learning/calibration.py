"""The calibration table: from a score to a probability of default, in integers (PROTOCOL §10).

A few bands between score thresholds, each with its probability in basis points. Whatever was fitted (`calibration_fitting`) is published in
this one form, so that private, open and plaintext decisions are the same exact comparison. The bands are also all that a quote tells about
the score: their number bounds what many quotes tell about the model (docs/threat-model.md).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hessian.errors import Malformed
from hessian.learning.plain import LARGEST_INTEGER, Fields, Plain

DEFAULT_BANDS = 10
MOST_BANDS = 16
WHOLE_BPS = 10_000


class CalibrationRefused(Malformed):
    """This is no calibration from scores to probabilities of default."""


@dataclass(frozen=True)
class CalibrationTable:
    """`probabilities` (basis points, rising) of the bands; band k holds the scores from thresholds[k−1] up to below thresholds[k]."""

    thresholds: tuple[int, ...]
    probabilities: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.probabilities) <= MOST_BANDS or len(self.thresholds) != len(self.probabilities) - 1:
            raise CalibrationRefused(f"a calibration has between 1 and {MOST_BANDS} bands, and a threshold between each two")
        if not _rises(self.thresholds) or not _rises(self.probabilities):
            raise CalibrationRefused("the thresholds and the probabilities of a calibration must rise")
        if not (self.probabilities[0] >= 1 and self.probabilities[-1] < WHOLE_BPS):
            raise CalibrationRefused(f"a probability of default must lie between 1 and {WHOLE_BPS - 1} basis points")

    def band_of(self, score: int) -> int:
        """The index of the score's band."""
        return bisect_right(self.thresholds, score)

    def to_plain(self) -> dict[str, Plain]:
        """A list of bands; the first has no lower end."""
        bands: list[Plain] = [{"from": low, "bps": bps} for low, bps in zip(self.thresholds, self.probabilities[1:], strict=True)]
        return {"lowest_bps": self.probabilities[0], "bands": bands}

    @classmethod
    def from_plain(cls, value: object, place: str = "calibration") -> CalibrationTable:
        """The inverse of `to_plain`. Raises ShapeRefused, CalibrationRefused."""
        fields = Fields.of(value, place)
        probabilities, thresholds = [fields.integer("lowest_bps", 1, WHOLE_BPS - 1)], list[int]()
        for band in fields.records("bands", MOST_BANDS - 1):
            thresholds.append(band.integer("from", -LARGEST_INTEGER, LARGEST_INTEGER))
            probabilities.append(band.integer("bps", 1, WHOLE_BPS - 1))
            band.done()
        fields.done()
        return cls(tuple(thresholds), tuple(probabilities))


def _rises(values: Sequence[int]) -> bool:
    return all(low < high for low, high in pairwise(values))
