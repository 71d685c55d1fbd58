"""What each kind of job does. Every step may be done again: a job that was interrupted anywhere starts from its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import structlog

from coordinator.clients.answers import Answer
from coordinator.clients.lender import LenderClient
from coordinator.clients.owner import OwnerClient, StoredArtifact, Ticket
from coordinator.clients.trainer import TrainerClient
from coordinator.jobs import JobKind, JobSpec, JobState, Service
from hessian.errors import IpfsUnavailable, ServiceFailed, Unavailable, Violated
from hessian.identifiers import Address, CohortId, Digest, RequestId, RoundId, digest_to_hex
from hessian.ipfs.store import ContentStore

log = structlog.get_logger()
ClientT = TypeVar("ClientT")


class ServiceMissing(Violated):
    """A job was planned for a service that this coordinator has no URL of."""


class NotFinalYet(Unavailable):
    """The neighbour has sent it; no final block shows it yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a finished attempt leaves its job."""

    state: JobState
    reason: str | None = None


_STATES = {
    "done": JobState.DONE,
    "superseded": JobState.DONE,
    "foreign": JobState.FOREIGN,
    "refused": JobState.SET_ASIDE,
}


class Handlers:
    """The neighbours of this node and what is asked of them."""

    def __init__(
        self,
        store: ContentStore,
        *,
        lender: LenderClient | None = None,
        owner: OwnerClient | None = None,
        trainer: TrainerClient | None = None,
    ) -> None:
        """None stands for a service that this node does not run."""
        self._store = store
        self._lender = lender
        self._owner = owner
        self._trainer = trainer

    async def do(self, job: JobSpec) -> Outcome:
        """Ask the neighbour. Raises Unavailable, Refused, Violated (see jobs.judge)."""
        answer = await (self._for_lender(job) if job.service is Service.LENDER else self._for_owner(job))
        if answer.outcome == "pending":  # asked again until it is final: what failed for no lasting reason is then sent anew
            raise NotFinalYet(answer.reason)
        return Outcome(_STATES[answer.outcome], answer.reason)

    async def _for_lender(self, job: JobSpec) -> Answer:
        lender = _present(self._lender)
        match job.kind:
            case JobKind.OPEN_ROUND:
                return await lender.open_round(_cohort(job))
            case JobKind.ACCEPT_SUBMISSIONS:
                return await lender.accept_submissions(_round(job))
            case JobKind.EVALUATE_ROUND:
                return await lender.evaluate_round(_round(job))
            case JobKind.EXPIRE_ROUND:
                return await lender.expire_round(_round(job))
            case JobKind.CONCLUDE_MODEL:
                return await lender.conclude_model(job.model_id)
            case JobKind.ANSWER_SCORE:
                return await lender.answer_score(_request(job))
            case _:
                raise ServiceMissing(f"lender-api does no {job.kind}")

    async def _for_owner(self, job: JobSpec) -> Answer:
        owner = _present(self._owner)
        match job.kind:
            case JobKind.ANNOUNCE_MODEL:
                return await owner.announce_model(job.model_id)
            case JobKind.CONTRIBUTE:
                return await self._contribute(owner, _round(job), _member(job))
            case JobKind.ABANDON:
                return await owner.abandon(_round(job), _member(job), job.occasion)
            case JobKind.UNLOCK:
                return await owner.unlock(_round(job), _member(job))
            case JobKind.CONCLUDE_CONTRIBUTION:
                return await owner.conclude_contribution(_round(job), _member(job))
            case JobKind.LEAVE_COHORT:
                return await owner.leave_cohort(_cohort(job))
            case JobKind.EXPIRE_ROUND:
                return await owner.expire_round(_round(job))
            case JobKind.READ_ANSWER:
                return await owner.read_answer(_request(job))
            case JobKind.EXPIRE_REQUEST:
                return await owner.expire_request(_request(job))
            case _:
                raise ServiceMissing(f"owner-api does no {job.kind}")

    async def _contribute(self, owner: OwnerClient, round_id: RoundId, member: Address) -> Answer:
        """ticket → trainer → artifact → published and pinned → submitted (ARCHITECTURE, "How one round flows")."""
        begun = await owner.begin_contribution(round_id, member)
        if not isinstance(begun, Ticket):
            return begun
        manifest = await self._store.get(Digest(begun.manifest_digest))
        weights = await self._store.get(Digest(begun.weights_digest))
        computed = await _present(self._trainer).gradient_step(begun.ticket, manifest, weights)
        stored = await owner.store_artifact(round_id, member, computed)
        digest = await self._publish(stored, computed)
        log.info("gradient_published", round_id=round_id, member=member, digest=digest_to_hex(digest), size=len(computed))
        return await owner.submit(round_id, member, digest)

    async def _publish(self, stored: StoredArtifact, computed: bytes) -> Digest:
        """An artifact's digest is anchored only once this node holds and pins its bytes."""
        artifact = computed if stored.artifact is None else stored.artifact
        digest = await self._store.put(artifact)
        if digest != stored.gradient_digest:
            raise ServiceFailed("owner-api stored another artifact than it names")
        if not await self._store.is_pinned(digest):
            raise IpfsUnavailable("the IPFS node did not pin the artifact")
        return digest


def _present(client: ClientT | None) -> ClientT:
    if client is None:
        raise ServiceMissing
    return client


def _round(job: JobSpec) -> RoundId:
    if job.round_id is None:
        raise Violated(f"{job.business_key} names no round")
    return job.round_id


def _request(job: JobSpec) -> RequestId:
    if job.request_id is None:
        raise Violated(f"{job.business_key} names no request")
    return job.request_id


def _cohort(job: JobSpec) -> CohortId:
    if job.cohort_id is None:
        raise Violated(f"{job.business_key} names no cohort")
    return job.cohort_id


def _member(job: JobSpec) -> Address:
    if job.member is None:
        raise Violated(f"{job.business_key} names no member")
    return job.member
