"""Enrolments as the API shows them."""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from owner_api.states import EnrollmentState
from owner_api.tables import Enrollment


class EnrollmentCreate(BaseModel):
    """Offer a dataset to a model."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model_id": 1, "dataset_id": "5d3a2f6e-0c1b-4f39-8f0f-1f0e6b1f4a22", "accept_alone": False}]},
    )

    model_id: int = Field(ge=1, lt=2**63, strict=True)
    dataset_id: uuid.UUID
    accept_alone: bool = Field(
        default=False,
        strict=True,
        description="Confirms that in a cohort of one the lender learns this dataset's statistics; without it such a model is refused",
    )


class EnrollmentRead(BaseModel):
    """How far an enrolment is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "8f2a4c58-6a0d-4d8a-a3b0-6d1f5b3c2e77",
                    "state": "waiting",
                    "reason": None,
                    "model_id": 1,
                    "dataset_id": "5d3a2f6e-0c1b-4f39-8f0f-1f0e6b1f4a22",
                    "cohort_id": 3,
                    "member_index": None,
                    "members": "4/5",
                    "rows": 1600,
                    "created_at": "2026-11-22T14:00:00Z",
                    "updated_at": "2026-11-22T14:00:09Z",
                }
            ]
        }
    )

    id: uuid.UUID
    state: EnrollmentState
    reason: str | None = Field(description="Why it was refused or closed, or what it waits for")
    model_id: int
    dataset_id: uuid.UUID
    cohort_id: int | None
    member_index: int | None
    members: str = Field(description="Members in the cohort / members it needs")
    rows: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Enrollment) -> EnrollmentRead:
        """From its row."""
        return cls(
            id=row.id,
            state=EnrollmentState(row.state),
            reason=row.reason,
            model_id=row.model_id,
            dataset_id=row.dataset_id,
            cohort_id=row.cohort_id,
            member_index=row.member_index,
            members=f"{row.members}/{row.cohort_size}",
            rows=row.rows,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
