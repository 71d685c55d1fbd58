"""Which cells say that a number is missing, and its unit, beside the features that were read of manifests before."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from hessian.artifacts.codec import decode

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_models = sa.table(
    "catalogue_models",
    sa.column("model_id", sa.BigInteger()),
    sa.column("manifest", sa.LargeBinary()),
    sa.column("summary", postgresql.JSONB(astext_type=sa.Text())),
)


def upgrade() -> None:
    """Forward. The manifests are kept here, and say it: nobody has to be asked anew."""
    connection = op.get_bind()
    usable = sa.select(_models).where(_models.c.manifest.is_not(None))
    for model_id, manifest, summary in connection.execute(usable).all():
        plain: Any = decode(manifest)
        for shown, feature in zip(summary["features"], plain["specification"]["features"], strict=True):
            if feature["kind"] == "numeric":
                shown |= {"missing": feature["missing_values"], "unit": feature["unit"]}
        connection.execute(_models.update().where(_models.c.model_id == model_id).values(summary=summary))
