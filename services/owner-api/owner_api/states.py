"""The states of enrolments, contributions and applications, each with the states that may follow it."""

from __future__ import annotations

from enum import StrEnum

from hessian.errors import Violated


class ForbiddenTransition(Violated):
    """A row cannot go from this state to that."""


class EnrollmentState(StrEnum):
    """Where an enrolment stands."""

    MEASURING = "measuring"  # -> joining, refused    the trainer computes the statistics
    JOINING = "joining"  # -> waiting, refused, closed    the join is with the outbox, or a new cohort is being chosen
    WAITING = "waiting"  # -> sealed, closed    a member of a cohort that still fills
    SEALED = "sealed"  # -> closed    the cohort is complete; rounds may come
    CLOSED = "closed"  # the cohort is closed or was left; secrets are erased
    REFUSED = "refused"  # this node's policy, the data or the contract said no; secrets are erased

    @property
    def successors(self) -> frozenset[EnrollmentState]:
        """The states that may follow."""
        return _ENROLLMENT_SUCCESSORS[self]

    @property
    def is_active(self) -> bool:
        """Something may follow."""
        return bool(self.successors)


_ENROLLMENT_SUCCESSORS = {
    EnrollmentState.MEASURING: frozenset({EnrollmentState.JOINING, EnrollmentState.REFUSED}),
    EnrollmentState.JOINING: frozenset({EnrollmentState.WAITING, EnrollmentState.REFUSED}),
    EnrollmentState.WAITING: frozenset({EnrollmentState.SEALED, EnrollmentState.CLOSED}),
    EnrollmentState.SEALED: frozenset({EnrollmentState.CLOSED}),
    EnrollmentState.CLOSED: frozenset[EnrollmentState](),
    EnrollmentState.REFUSED: frozenset[EnrollmentState](),
}


class ContributionState(StrEnum):
    """Where one member's part in one round stands."""

    PREPARED = "prepared"  # -> computed, failed    u_i is stored; tickets may be issued
    COMPUTED = "computed"  # -> submitted, failed    the artifact is stored; the same bytes are sent for ever
    SUBMITTED = "submitted"  # -> unlocked, failed    submitGradient is with the outbox
    UNLOCKED = "unlocked"  # -> settled, failed    an unlock was signed: the sum counts as released
    SETTLED = "settled"  # the round was settled, or the lender defaulted and the cohort was paid
    FAILED = "failed"  # the round ended otherwise; u_i is erased

    @property
    def successors(self) -> frozenset[ContributionState]:
        """The states that may follow."""
        return _CONTRIBUTION_SUCCESSORS[self]


_CONTRIBUTION_SUCCESSORS = {
    ContributionState.PREPARED: frozenset({ContributionState.COMPUTED, ContributionState.FAILED}),
    ContributionState.COMPUTED: frozenset({ContributionState.SUBMITTED, ContributionState.FAILED}),
    ContributionState.SUBMITTED: frozenset({ContributionState.UNLOCKED, ContributionState.FAILED}),
    ContributionState.UNLOCKED: frozenset({ContributionState.SETTLED, ContributionState.FAILED}),
    ContributionState.SETTLED: frozenset[ContributionState](),
    ContributionState.FAILED: frozenset[ContributionState](),
}


class ApplicationMode(StrEnum):
    """How a borrower applies."""

    PRIVATE = "private"  # the lender sees a blinded score
    OPEN = "open"  # the lender sees the features, and may give reasons for a decline


class ApplicationState(StrEnum):
    """Where a borrower's application stands."""

    PREPARING = "preparing"  # -> requesting, failed    its secrets are stored; the query is computed and published
    REQUESTING = "requesting"  # -> waiting, failed    requestScore is with the outbox
    WAITING = "waiting"  # -> quoted, unreadable, expired    the fee is paid; the lender may answer until the deadline
    QUOTED = "quoted"  # -> accepted    the answer was opened
    ACCEPTED = "accepted"  # the opening was given to the borrower's client
    UNREADABLE = "unreadable"  # the lender was paid for an answer that nobody can read
    EXPIRED = "expired"  # -> preparing    the lender did not answer; the fee is credited back
    FAILED = "failed"  # -> preparing    nothing was paid

    @property
    def successors(self) -> frozenset[ApplicationState]:
        """The states that may follow."""
        return _APPLICATION_SUCCESSORS[self]

    @property
    def is_under_way(self) -> bool:
        """Something will happen by itself: its secrets are needed."""
        return self in (ApplicationState.PREPARING, ApplicationState.REQUESTING, ApplicationState.WAITING)


_APPLICATION_SUCCESSORS = {
    ApplicationState.PREPARING: frozenset({ApplicationState.REQUESTING, ApplicationState.FAILED}),
    ApplicationState.REQUESTING: frozenset({ApplicationState.WAITING, ApplicationState.FAILED}),
    ApplicationState.WAITING: frozenset({ApplicationState.QUOTED, ApplicationState.UNREADABLE, ApplicationState.EXPIRED}),
    ApplicationState.QUOTED: frozenset({ApplicationState.ACCEPTED}),
    ApplicationState.ACCEPTED: frozenset[ApplicationState](),
    ApplicationState.UNREADABLE: frozenset[ApplicationState](),
    ApplicationState.EXPIRED: frozenset({ApplicationState.PREPARING}),
    ApplicationState.FAILED: frozenset({ApplicationState.PREPARING}),
}
