"""What a job is: its kinds, its states and the ways between them, and what a failure means for it. Pure.

A job is named by its business key: planning the same thing twice, whatever the reason, is one job. Every effect behind it is idempotent,
because a worker that lost its heartbeat may still be running when the next one starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from hessian.errors import HessianError, ServiceFailed, ServiceUnavailable, Unavailable, Violated
from hessian.identifiers import Address, CohortId, ModelId, RequestId, RoundId

CRASH_LIMIT = 5
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


class Service(StrEnum):
    """The neighbours of a coordinator."""

    LENDER = "lender"
    OWNER = "owner"
    TRAINER = "trainer"


class JobKind(StrEnum):
    """What may be asked of a neighbour."""

    ANNOUNCE_MODEL = "announce_model"
    OPEN_ROUND = "open_round"
    CONTRIBUTE = "contribute"
    ABANDON = "abandon"
    ACCEPT_SUBMISSIONS = "accept_submissions"
    UNLOCK = "unlock"
    EVALUATE_ROUND = "evaluate_round"
    EXPIRE_ROUND = "expire_round"
    CONCLUDE_CONTRIBUTION = "conclude_contribution"
    CONCLUDE_MODEL = "conclude_model"
    LEAVE_COHORT = "leave_cohort"
    ANSWER_SCORE = "answer_score"
    READ_ANSWER = "read_answer"
    EXPIRE_REQUEST = "expire_request"


PRIORITY = {
    JobKind.ABANDON: 30,  # bonds are at stake behind these five: never behind a row of gradient steps
    JobKind.UNLOCK: 30,
    JobKind.ACCEPT_SUBMISSIONS: 30,
    JobKind.EVALUATE_ROUND: 30,
    JobKind.EXPIRE_ROUND: 30,
    JobKind.OPEN_ROUND: 20,
    JobKind.ANSWER_SCORE: 20,  # a borrower waits; but anybody may ask, so never before a bond
    JobKind.READ_ANSWER: 20,
    JobKind.CONTRIBUTE: 10,
    JobKind.CONCLUDE_CONTRIBUTION: 5,
    JobKind.CONCLUDE_MODEL: 5,
    JobKind.LEAVE_COHORT: 5,
    JobKind.EXPIRE_REQUEST: 5,
    JobKind.ANNOUNCE_MODEL: 0,
}

PRIORITY_AGAIN = {(JobKind.ANSWER_SCORE, "QueryNotFound"): 1}
"""Of later attempts, by the problem that the neighbour named: a request whose query nobody has costs its maker next to nothing, and gives
way to all others. One that waits for a neighbour, or for a place that others hold, does not."""


class JobState(StrEnum):
    """Where a job stands. Each ends in exactly one of done, foreign, set_aside."""

    PLANNED = "planned"  # -> dispatched
    DISPATCHED = "dispatched"  # -> planned (again later), done, foreign, set_aside
    DONE = "done"
    FOREIGN = "foreign"  # nobody of this node is concerned
    SET_ASIDE = "set_aside"  # -> planned, by an operator


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PLANNED: frozenset({JobState.DISPATCHED}),
    JobState.DISPATCHED: frozenset({JobState.PLANNED, JobState.DISPATCHED, JobState.DONE, JobState.FOREIGN, JobState.SET_ASIDE}),
    JobState.DONE: frozenset(),
    JobState.FOREIGN: frozenset(),
    JobState.SET_ASIDE: frozenset({JobState.PLANNED}),
}


def origins(target: JobState) -> frozenset[JobState]:
    """The states a job may be in before it moves to `target`."""
    return frozenset(state for state, targets in TRANSITIONS.items() if target in targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One thing to ask of one neighbour."""

    kind: JobKind
    service: Service
    model_id: ModelId
    cohort_id: CohortId | None = None
    round_id: RoundId | None = None
    request_id: RequestId | None = None
    member: Address | None = None
    occasion: str = ""
    """What tells this job from another of the same kind about the same subject: a state, a block, a count."""

    @property
    def subject(self) -> str:
        """What it is about, in words: also the correlation id of every request it makes."""
        if self.request_id is not None:
            return f"request-{self.request_id}"
        if self.round_id is not None:
            return f"round-{self.round_id}"
        return f"model-{self.model_id}" if self.cohort_id is None else f"cohort-{self.cohort_id}"

    @property
    def business_key(self) -> str:
        """Unique for ever."""
        parts = (self.kind, self.service, self.subject, self.member, self.occasion)
        return ":".join(part for part in parts if part)

    @property
    def lock(self) -> str:
        """Jobs with the same lock run one at a time: per round and member, and per subject and kind for the rest.

        What comes next in a round does not wait until what came before is known to be final, nor leaving for the gradient step that is the
        reason for it.
        """
        if self.member is None or self.kind is JobKind.ABANDON:
            return f"{self.subject}:{self.member or self.service}:{self.kind}"
        return f"{self.subject}:{self.member}"

    @property
    def needs(self) -> frozenset[Service]:
        """The neighbours without which nobody can do it."""
        return frozenset({self.service, Service.TRAINER} if self.kind is JobKind.CONTRIBUTE else {self.service})


def instead_of(job: JobSpec) -> JobSpec | None:
    """What is asked once `job` is set aside: a member that cannot contribute leaves before its silence costs the bond (PROTOCOL §6)."""
    return replace(job, kind=JobKind.ABANDON, occasion="its contribution was set aside") if job.kind is JobKind.CONTRIBUTE else None


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `seconds`."""

    seconds: float
    reason: str
    is_crash: bool = False


@dataclass(frozen=True, slots=True)
class SetAside:
    """A person must look."""

    reason: str


def delay(attempts: int) -> float:
    """Seconds to wait after the `attempts`-th failure in a row: doubling, capped."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(max(attempts, 1) - 1, 16))


def priority_again(kind: JobKind, error: BaseException) -> int | None:
    """The priority after an attempt that failed so; None leaves it as it is."""
    return PRIORITY_AGAIN.get((kind, error.title)) if isinstance(error, ServiceUnavailable) else None


def judge(error: BaseException, *, attempts: int, crashes: int) -> Retry | SetAside:
    """What a failed attempt means. The error's family decides (hessian.errors); what has no family is a crash, and few are tried again.

    `attempts` counts this one, `crashes` those before it.
    """
    if isinstance(error, Unavailable) and not isinstance(error, ServiceFailed):
        return Retry(delay(attempts), error.sentence)
    if isinstance(error, HessianError) and not isinstance(error, ServiceFailed):
        return SetAside(f"{type(error).__name__}: {error.sentence}" if isinstance(error, Violated) else error.sentence)
    # the words of a foreign exception may quote anything, a secret included: its class goes into the row, the rest into the operator's log
    reason = error.sentence if isinstance(error, ServiceFailed) else f"the coordinator met a {type(error).__name__}; see its log"
    if crashes + 1 >= CRASH_LIMIT:
        return SetAside(f"failed {crashes + 1} times: {reason}")
    return Retry(delay(crashes + 1), reason, is_crash=True)
