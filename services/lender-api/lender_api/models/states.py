"""Where a model stands. One function moves it, and only along these arrows."""

from __future__ import annotations

from enum import StrEnum

import structlog

from hessian.chain import records
from hessian.errors import Violated
from lender_api.tables import Model

log = structlog.get_logger()


class ModelState(StrEnum):
    """The lender's view: before the chain knows the model, and after."""

    PREPARING = "preparing"  # asked for; its key pair and encrypted weights are being made
    PUBLISHING = "publishing"  # manifest and weights are stored here; they go to IPFS
    CREATING = "creating"  # createModel is in the outbox
    OPEN = "open"  # final on chain, the bounty in escrow
    TRAINED = "trained"  # the target error is reached
    EXHAUSTED = "exhausted"  # all rounds are paid
    EXPIRED = "expired"  # past its training deadline
    DEFAULTED = "defaulted"  # a round was not reported in time
    CANCELLED = "cancelled"  # closed by the lender while open
    FAILED = "failed"  # never came to be; the reason says why

    @property
    def successors(self) -> frozenset[ModelState]:
        """The states that may follow."""
        return _SUCCESSORS[self]


_ENDED = frozenset({ModelState.TRAINED, ModelState.EXHAUSTED, ModelState.EXPIRED, ModelState.DEFAULTED, ModelState.CANCELLED})
_SUCCESSORS: dict[ModelState, frozenset[ModelState]] = {
    ModelState.PREPARING: frozenset({ModelState.PUBLISHING, ModelState.FAILED}),
    ModelState.PUBLISHING: frozenset({ModelState.CREATING, ModelState.FAILED}),
    ModelState.CREATING: frozenset({ModelState.OPEN, ModelState.FAILED}),
    ModelState.OPEN: _ENDED,
    # a round that was open at the deadline may still be reported, and then decides how the model ended
    ModelState.EXPIRED: _ENDED - {ModelState.EXPIRED, ModelState.CANCELLED},
    **{state: frozenset() for state in (*(_ENDED - {ModelState.EXPIRED}), ModelState.FAILED)},
}
_FROM_CHAIN: dict[records.ModelState, ModelState] = {
    state: ModelState(state.name.lower()) for state in records.ModelState if state is not records.ModelState.NONE
}


class ForbiddenTransition(Violated):
    """A model cannot go from this state to that."""


def move_to(model: Model, state: ModelState, reason: str | None = None) -> None:
    """The only way to change the state. Raises ForbiddenTransition."""
    before = ModelState(model.state)
    if state not in before.successors:
        raise ForbiddenTransition(f"model {model.id} cannot go from {before} to {state}")
    model.state, model.reason = state.value, reason
    log.info("model_moved", model=str(model.id), model_id=model.model_id, before=before.value, state=state.value, reason=reason)


def follow_chain(model: Model, state: records.ModelState) -> None:
    """Take over what the contract says. Nothing happens when it is known already, or OPEN comes from an older block than what is known."""
    seen = _FROM_CHAIN[state]
    if seen is not ModelState.OPEN and model.state != seen.value:
        move_to(model, seen)
