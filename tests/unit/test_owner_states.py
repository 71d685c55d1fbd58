"""States are data: every pair is allowed or forbidden, and an end erases what must not outlive it."""

from __future__ import annotations

import itertools
import uuid

import pytest

from hessian.identifiers import Digest
from owner_api.states import ApplicationState, ContributionState, EnrollmentState, ForbiddenTransition
from owner_api.tables import Application, Contribution, Enrollment

ENROLLMENT = {
    ("measuring", "joining"), ("measuring", "refused"), ("joining", "waiting"), ("joining", "refused"),
    ("waiting", "sealed"), ("waiting", "closed"), ("sealed", "closed"),
}  # fmt: skip
CONTRIBUTION = {
    ("prepared", "computed"), ("computed", "submitted"), ("submitted", "unlocked"), ("unlocked", "settled"),
    ("prepared", "failed"), ("computed", "failed"), ("submitted", "failed"), ("unlocked", "failed"),
}  # fmt: skip
APPLICATION = {
    ("preparing", "requesting"), ("preparing", "failed"), ("requesting", "waiting"), ("requesting", "failed"),
    ("waiting", "quoted"), ("waiting", "unreadable"), ("waiting", "expired"), ("quoted", "accepted"),
    ("expired", "preparing"), ("failed", "preparing"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(itertools.product(EnrollmentState, EnrollmentState)))
def test_enrollment__each_transition__is_allowed_or_forbidden(before: EnrollmentState, after: EnrollmentState) -> None:
    row = Enrollment(id=uuid.uuid4(), state=before, sealed_statistics=b"s", sealed_masking_secret=b"m", tries=3)
    if (before.value, after.value) not in ENROLLMENT:
        with pytest.raises(ForbiddenTransition):
            row.move_to(after)
        assert (row.state, row.sealed_statistics) == (before, b"s")
        return
    row.move_to(after, "because")
    assert (row.state, row.reason, row.tries) == (after, "because", 0)
    ended = after in (EnrollmentState.CLOSED, EnrollmentState.REFUSED)
    assert (row.sealed_statistics is None and row.sealed_masking_secret is None) == ended


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ContributionState, ContributionState)))
def test_contribution__each_transition__is_allowed_or_forbidden(before: ContributionState, after: ContributionState) -> None:
    row = Contribution(round_id=1, state=before, sealed_seed=b"u")
    if (before.value, after.value) not in CONTRIBUTION:
        with pytest.raises(ForbiddenTransition):
            row.move_to(after)
        return
    row.move_to(after)
    assert row.state == after
    assert (row.sealed_seed is None) == (after in (ContributionState.SETTLED, ContributionState.FAILED))


@pytest.mark.parametrize("is_made", [True, False])
@pytest.mark.parametrize(("before", "after"), list(itertools.product(ApplicationState, ApplicationState)))
def test_application__each_transition__is_allowed_or_forbidden(before: ApplicationState, after: ApplicationState, is_made: bool) -> None:
    row = Application(id=uuid.uuid4(), state=before, sealed_features=b"f", sealed_salt=b"s", cells=b"c", tries=3)
    row.query_digest = Digest(bytes(32)) if is_made else None
    if (before.value, after.value) not in APPLICATION:
        with pytest.raises(ForbiddenTransition):
            row.move_to(after)
        assert (row.state, row.sealed_features) == (before, b"f")
        return
    row.move_to(after, "because")
    assert (row.state, row.reason, row.tries) == (after, "because", 0)
    never_left = after is ApplicationState.FAILED and not is_made
    assert (row.sealed_features is None and row.sealed_salt is None and row.cells == b"" and row.erased_at is not None) == never_left
