"""Owners as the API shows them."""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from hessian.service.fields import AddressField, WeiRead


class OwnerCreate(BaseModel):
    """A new data owner."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, json_schema_extra={"examples": [{"name": "North Bank"}]})

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")


class OwnerRead(BaseModel):
    """A data owner and its wallet."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "0b0c4a52-4c2e-4d5b-9d4b-0f9d3b6f5a11",
                    "name": "North Bank",
                    "address": "0x52908400098527886E0F7030069857D2E4169EE7",
                    "created_at": "2026-11-22T14:00:00Z",
                    "balance_wei": "1000000000000000000",
                }
            ]
        },
    )

    id: uuid.UUID
    name: str
    address: AddressField
    created_at: datetime
    balance_wei: WeiRead | None = Field(
        default=None, description="Ether in the wallet at the head block; it pays bonds, fees and gas. Null right after creation"
    )


class OwnerCreated(OwnerRead):
    """A new owner with its token."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b0c4a52-4c2e-4d5b-9d4b-0f9d3b6f5a11",
                    "name": "North Bank",
                    "address": "0x52908400098527886E0F7030069857D2E4169EE7",
                    "created_at": "2026-11-22T14:00:00Z",
                    "token": "rXk0t3nV0wq7J8Jt2b8y1m6q3s5u7w9z1B3D5F7H9J0",
                }
            ]
        }
    )

    token: str = Field(description="Shown once; only its hash is kept", examples=["rXk0t3nV0wq7J8Jt2b8y1m6q3s5u7w9z1B3D5F7H9J0"])
