"""The outbox's states: what may follow what."""

from __future__ import annotations

from itertools import product

import pytest
from sqlalchemy.orm import DeclarativeBase

from hessian.outbox.tables import ForbiddenTransition, OutboxRow, TransactionState


class Base(DeclarativeBase):
    pass


class Transaction(OutboxRow, Base):
    pass


ALLOWED = {("pending", "signed"), ("signed", "sent"), ("sent", "final"), ("pending", "failed"), ("signed", "failed"), ("sent", "failed")}


@pytest.mark.parametrize(("before", "after"), list(product(TransactionState, TransactionState)))
def test_move_to__every_pair__follows_the_table(before: TransactionState, after: TransactionState) -> None:
    row = Transaction(id=1, state=before)
    if (before, after) in ALLOWED:
        row.move_to(after, "why")
        assert (row.state, row.failure) == (after, "why")
    else:
        with pytest.raises(ForbiddenTransition):
            row.move_to(after)
        assert row.state is before


def test_is_settled__only_the_two_ends() -> None:
    assert {state for state in TransactionState if state.is_settled} == {TransactionState.FINAL, TransactionState.FAILED}
