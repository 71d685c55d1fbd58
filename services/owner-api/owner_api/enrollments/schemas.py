"""Enrolments as the API shows them."""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from hessian.privacy.requirement import in_words
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


class PrivacyRead(BaseModel):
    """What a model that requires differential privacy can learn of one row, at most. Decimal numbers as text."""

    delta: str = Field(examples=["0.000001"])
    epsilon_local: str = Field(description="If everybody else colludes; for any rounds, weights and cohorts of this release")
    epsilon_cohort: str | None = Field(
        description="If at least `honest_members` members of the cohort keep their noise secret; null before the cohort is complete, "
        "after a second cohort, and where no better figure than epsilon_local can be claimed"
    )
    honest_members: int | None

    @classmethod
    def of(cls, row: Enrollment) -> PrivacyRead | None:
        """From an enrolment's row; None without differential privacy."""
        if row.epsilon_local is None or row.delta is None:
            return None
        return cls(
            delta=in_words(row.delta),
            epsilon_local=in_words(row.epsilon_local),
            epsilon_cohort=None if row.epsilon_cohort is None else in_words(row.epsilon_cohort),
            honest_members=None if row.epsilon_cohort is None else row.honest_members,
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
                    "measured_percent": None,
                    "privacy": {"delta": "0.000001", "epsilon_local": "1", "epsilon_cohort": "0.556", "honest_members": 3},
                    "created_at": "2026-11-22T14:00:00Z",
                    "updated_at": "2026-11-22T14:00:09Z",
                }
            ]
        }
    )

    id: uuid.UUID
    state: EnrollmentState = Field(
        description="measuring: the trainer computes the statistics · joining: the join is on its way, or another cohort is being chosen "
        "· waiting: a member of a cohort that still fills · sealed: the cohort is complete, rounds may come · closed: the cohort is "
        "closed or was left · refused: this node's policy, the data or the contract said no"
    )
    reason: str | None = Field(description="Why it was refused or closed, or what it waits for")
    model_id: int
    dataset_id: uuid.UUID
    cohort_id: int | None
    member_index: int | None
    members: str = Field(description="Members in the cohort / members it needs")
    rows: int
    measured_percent: int | None = Field(description="While it is measured: how much of the file the trainer has read")
    privacy: PrivacyRead | None = Field(description="Null where the model requires none: then the cohort's sum holds exact statistics")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Enrollment, measured_percent: int | None = None) -> EnrollmentRead:
        """From its row, and how far its measuring is."""
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
            measured_percent=measured_percent,
            privacy=PrivacyRead.of(row),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
