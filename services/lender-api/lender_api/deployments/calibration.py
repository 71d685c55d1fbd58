"""From a trained model and the lender's own validation rows to a calibration: what a score means, before anybody is asked to pay for one.

The scores are those that borrowers will get: weights and features rounded to the scoring scale. Pure but for the reading of rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from hessian.artifacts.manifest import ModelManifest
from hessian.errors import Conflict
from hessian.identifiers import Digest, ModelId
from hessian.learning.calibration import CalibrationTable
from hessian.learning.columns import Columns
from hessian.learning.metrics import scores
from hessian.learning.scoring import ScoringScale, scale_for
from hessian.postgres.session import Session
from lender_api.models import service as models
from lender_api.rounds.history import weights_of
from lender_api.tables import Model
from lender_api.validation_sets import service as validation_sets
from lender_api.world import World


class ModelNotTrained(Conflict):
    """The model has not reached its target."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The final weights' digest, the scale of scores, the table, and the figures it was judged by (JSON-able)."""

    weights_digest: Digest
    scale: ScoringScale
    table: CalibrationTable
    figures: dict[str, Any]


async def calibrate(session: Session, world: World, model: Model, *, blinding_bits: int, bands: int) -> Calibrated:
    """Of the final weights on the model's validation rows; the same rows give the same table.

    Raises ModelNotOnChain, ModelNotTrained, CalibrationRefused, ScaleRefused, KeyLost, ChainUnavailable.
    """
    if model.model_id is None:
        raise models.ModelNotOnChain(f"the model is {model.state}: there is nothing to calibrate")
    record = await world.repository.model(ModelId(model.model_id), await world.chain.final_block())
    if not record.is_trained:
        raise ModelNotTrained(f"the model is {record.state.name.lower()}: only one that reached its target can be deployed")
    manifest = await models.manifest_of(session, world, model)
    row = await weights_of(session, model, record.weights_digest)
    rows = await validation_sets.get(session, model.validation_set_id)
    columns = await validation_sets.cells(session, world, rows, manifest.specification.columns)
    weights = world.keys.open_weights(row)
    return await asyncio.to_thread(_calibrate, manifest, row.digest, weights, columns, blinding_bits=blinding_bits, bands=bands)


def _calibrate(
    manifest: ModelManifest, digest: Digest, weights: list[int], columns: Columns, *, blinding_bits: int, bands: int
) -> Calibrated:
    from hessian.learning.calibration_fitting import fit_calibration  # scikit-learn: seconds that no start should wait for

    specification, bits = manifest.specification, manifest.bounds.weight_bits
    scale = scale_for(specification, weights, bits, blinding_bits=blinding_bits)
    design, labels = specification.matrix(columns)
    fitted = fit_calibration(scores(scale.weights(weights, bits), scale.features(specification, design)), labels, bands=bands)
    return Calibrated(digest, scale, fitted.table, {"method": fitted.method, **asdict(fitted.figures)})
