"""Validation sets on the wire."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from hessian.service.fields import DigestField


class ValidationSetRead(BaseModel):
    """A lender's own labelled rows: what every new model is fitted and measured on. The rows themselves are never given out again."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str = Field(examples=["2014 loans, validation"])
    label: str = Field(description="The label's column", examples=["Class"])
    positive: str = Field(description="The label's value that means y = 1", examples=["bad"])
    rows: int = Field(examples=[1200])
    positives: int = Field(description="Rows with the positive label", examples=[61])
    columns: list[str] = Field(examples=[["funded_amnt", "term", "int_rate", "Class"]])
    digest: DigestField = Field(description="sha2-256 of the uploaded bytes")
    created_at: datetime
