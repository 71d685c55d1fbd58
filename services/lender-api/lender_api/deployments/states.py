"""Where a deployment stands. One function moves it, and only along these arrows."""

from __future__ import annotations

from enum import StrEnum

import structlog

from hessian.errors import Violated
from lender_api.tables import Deployment

log = structlog.get_logger()


class DeploymentState(StrEnum):
    """Before the chain knows the deployment, and after."""

    PREPARING = "preparing"  # asked for; the weights are being encrypted at the scoring scale
    PUBLISHING = "publishing"  # the scoring model is stored here; it goes to IPFS
    DEPLOYING = "deploying"  # deploy is in the outbox
    SERVING = "serving"  # final on chain: borrowers may ask
    RETIRED = "retired"  # takes no new requests; those that wait are answered
    FAILED = "failed"  # never came to be; the reason says why

    @property
    def successors(self) -> frozenset[DeploymentState]:
        """The states that may follow."""
        return _SUCCESSORS[self]


_SUCCESSORS: dict[DeploymentState, frozenset[DeploymentState]] = {
    DeploymentState.PREPARING: frozenset({DeploymentState.PUBLISHING, DeploymentState.FAILED}),
    DeploymentState.PUBLISHING: frozenset({DeploymentState.DEPLOYING, DeploymentState.FAILED}),
    DeploymentState.DEPLOYING: frozenset({DeploymentState.SERVING, DeploymentState.FAILED}),
    DeploymentState.SERVING: frozenset({DeploymentState.RETIRED}),
    DeploymentState.RETIRED: frozenset(),
    DeploymentState.FAILED: frozenset(),
}


class ForbiddenTransition(Violated):
    """A deployment cannot go from this state to that."""


def move_to(deployment: Deployment, state: DeploymentState, reason: str | None = None) -> None:
    """The only way to change the state. Raises ForbiddenTransition."""
    before = DeploymentState(deployment.state)
    if state not in before.successors:
        raise ForbiddenTransition(f"deployment {deployment.id} cannot go from {before} to {state}")
    deployment.state, deployment.reason = state.value, reason
    log.info(
        "deployment_moved",
        deployment=str(deployment.id),
        deployment_id=deployment.deployment_id,
        before=before.value,
        state=state.value,
        reason=reason,
    )
