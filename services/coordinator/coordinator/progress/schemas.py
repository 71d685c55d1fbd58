"""What the events of the stream carry. A job's is JobRead, the cursor's BlockRead."""

from __future__ import annotations

from pydantic import Field

from coordinator.schemas import ErrorField, Row, TimeField
from hessian.service.fields import WeiRead


class RoundProgress(Row):
    """A round as GET /v1/rounds shows it, without its members and jobs."""

    round_id: int = Field(examples=[3])
    model_id: int = Field(examples=[1])
    cohort_id: int = Field(examples=[1])
    number: int = Field(description="Counts the model's rounds from 1", examples=[3])
    state: str = Field(examples=["unlocking"])
    deadline: int = TimeField
    submitted: int = Field(examples=[5])
    unlocked: int = Field(examples=[2])
    error_before: int = ErrorField
    error_after: int | None = ErrorField
    pool_wei: WeiRead | None
    opened_at: int = TimeField
    ended_at: int | None = TimeField
