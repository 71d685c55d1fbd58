"""The correlation id of an event: the same words as the jobs it leads to (`JobSpec.subject`). Pure."""

from __future__ import annotations

from hessian.chain.contract_events import ContractEvent

_FIELDS = {"request_id": "request", "round_id": "round", "cohort_id": "cohort", "model_id": "model"}
"""The narrowest first."""


def subject_of(event: ContractEvent) -> str | None:
    """`request-9`, `round-7`, `cohort-3` or `model-1`; None for an event about money alone."""
    return next((f"{word}-{getattr(event, name)}" for name, word in _FIELDS.items() if hasattr(event, name)), None)
