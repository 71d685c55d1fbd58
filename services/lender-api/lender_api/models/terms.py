"""Which terms the contract will take: its own rules (PROTOCOL §7), asked before anything is made."""

from __future__ import annotations

from hessian.chain.records import Terms
from hessian.errors import Malformed
from hessian.identifiers import Timestamp

LONGEST_TRAINING = 730 * 24 * 3600


class TermsRefused(Malformed):
    """The contract would not take these terms."""


def check_terms(terms: Terms, *, minimum_window: int, now: Timestamp) -> None:
    """`minimum_window` of the deployment in seconds, `now` by the chain's clock. Raises TermsRefused naming the first bad term."""
    if terms.bounty < 1:
        raise TermsRefused("bounty_wei: a model needs a bounty of at least 1 wei")
    if terms.member_bond < terms.base_fee:
        raise TermsRefused(f"member_bond_wei: the bond of {terms.member_bond} wei is below the base fee of {terms.base_fee} wei")
    if terms.target_error >= terms.initial_error:
        raise TermsRefused(
            f"target_error: the model starts at an error of {terms.initial_error}, which already meets the target of {terms.target_error}"
        )
    for name in ("submit_window", "accept_window", "unlock_window", "evaluate_window"):
        if getattr(terms, name) < minimum_window:
            raise TermsRefused(f"{name}: this contract takes windows of {minimum_window} s and longer, not {getattr(terms, name)} s")
    if not now < terms.training_deadline <= now + LONGEST_TRAINING:
        raise TermsRefused(f"training_deadline: it must lie after {now} and at most two years later, by the chain's clock")
