"""owner-api, as a coordinator sees it. It knows which members are its own, and answers `foreign` for all others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.types import Base64Bytes

from coordinator.clients.answers import Answer, Neighbour, understood
from hessian.identifiers import Address, CohortId, Digest, ModelId, RequestId, RoundId, digest_to_hex
from hessian.service.fields import DigestField

DAG_CBOR = "application/vnd.ipld.dag-cbor"
SERVICE = "owner-api"


class Ticket(BaseModel):
    """A contribution is wanted. The ticket opens nothing here: the trainer redeems it with a token of its own."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["ticket"]
    ticket: str = Field(repr=False)
    manifest_digest: DigestField
    weights_digest: DigestField


class _ContributionAnswer(BaseModel):
    answer: Annotated[Answer | Ticket, Field(discriminator="outcome")]


class StoredArtifact(BaseModel):
    """The artifact that counts: the first one stored, whichever attempt computed it."""

    model_config = ConfigDict(frozen=True)

    gradient_digest: DigestField
    artifact: Base64Bytes | None = None


class OwnerClient(Neighbour):
    """Raises ServiceUnavailable, ServiceFailed, PeerRefused."""

    async def announce_model(self, model_id: ModelId) -> Answer:
        """Have the catalogue and the enrolments look at the model again."""
        return await self.ask("PUT", f"/v1/catalogue/{model_id}")

    async def begin_contribution(self, round_id: RoundId, member: Address) -> Answer | Ticket:
        """Ask for a ticket for this member's gradient step."""
        body = {"round_id": round_id, "member": member}
        answer = await self.client.post("/v1/contributions", body)
        return understood(_ContributionAnswer, SERVICE, {"answer": answer}).answer

    async def store_artifact(self, round_id: RoundId, member: Address, artifact: bytes) -> StoredArtifact:
        """Hand over the masked gradient; what comes back is the one to publish."""
        path = f"/v1/contributions/{round_id}/{member}/artifact"
        response = await self.client.request("POST", path, content=artifact, headers={"Content-Type": DAG_CBOR})
        return understood(StoredArtifact, SERVICE, response.json())

    async def submit(self, round_id: RoundId, member: Address, gradient_digest: Digest) -> Answer:
        """Anchor the digest of what is published and pinned."""
        body = {"gradient_digest": digest_to_hex(gradient_digest)}
        return await self.ask("POST", f"/v1/contributions/{round_id}/{member}/submit", body)

    async def abandon(self, round_id: RoundId, member: Address, reason: str) -> Answer:
        """Leave the cohort, if the member has nothing to submit. Unavailable until the leave is final."""
        return await self.ask("POST", f"/v1/contributions/{round_id}/{member}/abandon", {"reason": reason})

    async def unlock(self, round_id: RoundId, member: Address) -> Answer:
        """Open the member's self-mask."""
        return await self.ask("POST", f"/v1/contributions/{round_id}/{member}/unlock")

    async def conclude_contribution(self, round_id: RoundId, member: Address) -> Answer:
        """The round is over: book it, erase what must not outlive it."""
        return await self.ask("POST", f"/v1/contributions/{round_id}/{member}/conclude")

    async def leave_cohort(self, cohort_id: CohortId) -> Answer:
        """Take the bonds out of a cohort whose model ended."""
        return await self.ask("POST", f"/v1/cohorts/{cohort_id}/leave")

    async def expire_round(self, round_id: RoundId) -> Answer:
        """End a round whose deadline has passed."""
        return await self.ask("POST", f"/v1/rounds/{round_id}/expire")

    async def read_answer(self, request_id: RequestId) -> Answer:
        """A request was answered, or expired: open the quote, or book the refund."""
        return await self.ask("POST", f"/v1/requests/{request_id}/conclusion")

    async def expire_request(self, request_id: RequestId) -> Answer:
        """Take the fee back for a request that was not answered in time."""
        return await self.ask("POST", f"/v1/requests/{request_id}/expiry")
