"""lender-api, as a coordinator sees it. Every call is idempotent there, and re-reads the chain before it acts."""

from __future__ import annotations

from coordinator.clients.answers import Answer, Neighbour
from hessian.identifiers import CohortId, ModelId, RequestId, RoundId


class LenderClient(Neighbour):
    """Raises ServiceUnavailable, ServiceFailed, PeerRefused."""

    async def open_round(self, cohort_id: CohortId) -> Answer:
        """Open the cohort's next round."""
        return await self.ask("POST", f"/v1/cohorts/{cohort_id}/rounds")

    async def accept_submissions(self, round_id: RoundId) -> Answer:
        """Fetch and check every artifact, then accept."""
        return await self.ask("POST", f"/v1/rounds/{round_id}/accept")

    async def evaluate_round(self, round_id: RoundId) -> Answer:
        """Open the aggregate, update the model, report."""
        return await self.ask("POST", f"/v1/rounds/{round_id}/evaluate")

    async def conclude_model(self, model_id: ModelId) -> Answer:
        """Take the refund of a model that ended."""
        return await self.ask("POST", f"/v1/models/{model_id}/conclude")

    async def expire_round(self, round_id: RoundId) -> Answer:
        """End a round whose deadline has passed."""
        return await self.ask("POST", f"/v1/rounds/{round_id}/expire")

    async def answer_score(self, request_id: RequestId) -> Answer:
        """Score a borrower's query and anchor the sealed answer."""
        return await self.ask("POST", f"/v1/requests/{request_id}/answer")
