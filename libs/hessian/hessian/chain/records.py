"""What the contract stores and says, in its own words: the structs and enums of IModelRepository.sol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hessian.identifiers import Address, CohortId, Digest, ErrorUnits, ModelId, RoundId, Timestamp, Wei


class SplitRule(IntEnum):
    """How a round's pool is divided among the cohort (PROTOCOL §6)."""

    EQUAL = 0
    BY_ROWS = 1


class ModelState(IntEnum):
    """PROTOCOL §7. EXPIRED is computed from the clock, never stored."""

    NONE = 0
    OPEN = 1
    TRAINED = 2
    EXHAUSTED = 3
    EXPIRED = 4
    DEFAULTED = 5
    CANCELLED = 6


class RoundState(IntEnum):
    """PROTOCOL §4; a retry is a new round."""

    NONE = 0
    SUBMITTING = 1
    ACCEPTING = 2
    UNLOCKING = 3
    EVALUATING = 4
    SETTLED = 5
    FAILED = 6
    UNLOCK_FAILED = 7
    DEFAULTED = 8

    @property
    def is_in_flight(self) -> bool:
        """Something may still happen in it."""
        return RoundState.NONE < self < RoundState.SETTLED


class CreditReason(IntEnum):
    """Why an account was credited."""

    REWARD = 0
    BOND = 1
    FORFEIT = 2
    REFUND = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """A model's price, size and windows, immutable once created (PROTOCOL §7). Fields stand in the struct's order."""

    bounty: Wei
    base_fee: Wei
    member_bond: Wei
    initial_error: ErrorUnits
    target_error: ErrorUnits
    max_rounds: int
    cohort_size: int
    row_cap: int
    split_rule: SplitRule
    submit_window: int
    accept_window: int
    unlock_window: int
    evaluate_window: int
    training_deadline: Timestamp

    @property
    def escrow(self) -> Wei:
        """What `createModel` must be paid."""
        return Wei(self.bounty + self.base_fee * self.max_rounds)


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model at one block."""

    lender: Address
    state: ModelState
    is_trained: bool
    is_closed: bool
    best_error: ErrorUnits
    rounds_paid: int
    escrow: Wei
    forming_cohort_id: CohortId
    round_in_flight: RoundId
    manifest_digest: Digest
    weights_digest: Digest
    terms: Terms


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member of a cohort; its place in the list is its member index."""

    account: Address
    masking_key: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class CohortRecord:
    """A cohort at one block."""

    model_id: ModelId
    is_sealed: bool
    is_closed: bool
    total_rows: int
    members_hash: bytes
    round_in_flight: RoundId
    members: tuple[MemberRecord, ...]

    def index_of(self, account: Address) -> int | None:
        """The member index of an account, None when it is no member."""
        return next((index for index, member in enumerate(self.members) if member.account == account), None)


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """What one member sent in a round; zeros where nothing came yet."""

    gradient_digest: Digest
    unlock_commitment: bytes
    seed: bytes
    is_unlocked: bool

    @property
    def is_submitted(self) -> bool:
        """The contract refuses a digest of zero."""
        return any(self.gradient_digest)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round at one block; `submissions` by member index."""

    model_id: ModelId
    cohort_id: CohortId
    state: RoundState
    deadline: Timestamp
    submitted: int
    unlocked: int
    weights_digest: Digest
    submissions: tuple[SubmissionRecord, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """The contract's tracked accounts; their sum is at most its balance (PROTOCOL §6)."""

    escrow: Wei
    bonds: Wei
    credits: Wei
