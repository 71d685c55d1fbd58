"""States are data: every pair is allowed or forbidden, and an end erases what must not outlive it."""

from __future__ import annotations

import itertools
import uuid

import pytest

from owner_api.states import ContributionState, EnrollmentState, ForbiddenTransition
from owner_api.tables import Contribution, Enrollment

ENROLLMENT = {
    ("measuring", "joining"), ("measuring", "refused"), ("joining", "waiting"), ("joining", "refused"),
    ("waiting", "sealed"), ("waiting", "closed"), ("sealed", "closed"),
}  # fmt: skip
CONTRIBUTION = {
    ("prepared", "computed"), ("computed", "submitted"), ("submitted", "unlocked"), ("unlocked", "settled"),
    ("prepared", "failed"), ("computed", "failed"), ("submitted", "failed"), ("unlocked", "failed"),
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
