"""Datasets as the API shows them."""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from hessian.service.fields import DigestField


class DatasetRead(BaseModel):
    """A dataset of the calling owner; its rows are never shown."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "5d3a2f6e-0c1b-4f39-8f0f-1f0e6b1f4a22",
                    "name": "loans 2026-10",
                    "rows": 1600,
                    "columns": ["int_rate", "term", "Class"],
                    "label": "Class",
                    "positive_value": "bad",
                    "size": 183042,
                    "digest": "0x" + "ab" * 32,
                    "lineage": "b4f0a3f2-6c0e-4b8c-9a55-0e6f2d1c3b44",
                    "created_at": "2026-11-22T14:00:00Z",
                }
            ]
        },
    )

    id: uuid.UUID
    name: str
    rows: int
    columns: list[str] = Field(validation_alias="column_names", serialization_alias="columns")
    label: str
    positive_value: str
    size: int = Field(description="Bytes of the file")
    digest: DigestField = Field(description="sha2-256 of the file's bytes")
    lineage: uuid.UUID = Field(description="The same for versions that share a row")
    created_at: datetime
