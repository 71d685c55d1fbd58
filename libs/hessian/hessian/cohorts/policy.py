"""The owner's own policy: what its node demands of a model and of a cohort before it joins, and again before it submits (PROTOCOL §4).

Pure: facts in, objections out. An objection is a sentence for the owner; no objections means yes. The contract enforces none of this: it is
the owner's node that protects the owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hessian.identifiers import Address


@dataclass(frozen=True)
class OwnerPolicy:
    """The defaults of PROTOCOL §4. `allowed_members` None allows anybody; `minimum_window` in seconds."""

    minimum_members: int = 5
    rows_per_feature: int = 20
    largest_share: Fraction = Fraction(1, 2)
    minimum_window: int = 30 * 60
    allowed_members: frozenset[Address] | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What the chain and the manifest say about a model. `windows` in seconds by name; `certificate_valid` as verified by this node."""

    cohort_size: int
    windows: tuple[tuple[str, int], ...]
    certificate_valid: bool


@dataclass(frozen=True)
class CohortFacts:
    """The members (account, declared rows) that are in the cohort, of `cohort_size`, and the model's dimension d."""

    cohort_size: int
    dimension: int
    members: tuple[tuple[Address, int], ...]

    @property
    def is_full(self) -> bool:
        """Nobody else can join."""
        return len(self.members) >= self.cohort_size


@dataclass(frozen=True)
class LineageRelease:
    """A cohort in which this node has signed an unlock for rows of one dataset lineage (versions that share a row)."""

    chain_id: int
    contract: Address
    cohort_id: int
    requires_privacy: bool


def judge_model(policy: OwnerPolicy, facts: ModelFacts, *, single_confirmed: bool = False) -> list[str]:
    """Objections to joining any cohort of this model. `single_confirmed`: the owner knows that k = 1 shows the lender its statistics."""
    objections = []
    if facts.cohort_size == 1:
        if not single_confirmed:
            objections.append(
                "a cohort of one hides nothing from the lender: it learns this dataset's statistics, down to category counts of one; "
                "confirm explicitly to go on"
            )
    elif facts.cohort_size < policy.minimum_members:
        objections.append(f"its cohorts have {facts.cohort_size} members, this node wants at least {policy.minimum_members}")
    if not facts.certificate_valid:
        objections.append("its Paillier key has no valid certificate")
    for name, seconds in facts.windows:
        if seconds < policy.minimum_window:
            objections.append(
                f"its {name} window of {seconds} s is shorter than the {policy.minimum_window} s this node needs to act in time"
            )
    return objections


def judge_cohort(policy: OwnerPolicy, facts: CohortFacts) -> list[str]:
    """Objections to this cohort as it stands. What only a full cohort can satisfy (rows, shares) is asked once it is full.

    Before joining, put this node's own account and rows among the members. A cohort of one is judged by its rows alone.
    """
    objections = []
    if policy.allowed_members is not None:
        strangers = [account for account, _ in facts.members if account not in policy.allowed_members]
        objections += [f"the member {account} is not on this node's list" for account in strangers]
    if not facts.is_full:
        return objections
    total = sum(rows for _, rows in facts.members)
    needed = policy.rows_per_feature * facts.dimension
    if total < needed:
        objections.append(
            f"the cohort has {total} rows, this node wants at least {needed} ({policy.rows_per_feature} for each of {facts.dimension})"
        )
    if facts.cohort_size > 1:
        largest = max(rows for _, rows in facts.members)
        if largest > policy.largest_share * total:
            objections.append(
                f"one member holds {largest} of the cohort's {total} rows, more than the share of {policy.largest_share} allowed"
            )
    return objections


def judge_lineage(earlier: Sequence[LineageRelease], candidate: LineageRelease) -> list[str]:
    """At most one cohort per dataset lineage over all lenders, contracts and chains, counted from the signed unlock.

    Further rounds of the same cohort are no new release. More cohorts only if each of their models requires differential privacy of every
    member.
    """
    place = (candidate.chain_id, candidate.contract, candidate.cohort_id)
    others = [release for release in earlier if (release.chain_id, release.contract, release.cohort_id) != place]
    if others and not all(release.requires_privacy for release in (*others, candidate)):
        return ["these rows, or some of them, were already part of another cohort: the difference of two sums would isolate them"]
    return []
