"""The terms as the manifest repeats them, for readers without a node of their own. The chain's are the ones that count: `of` compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hessian.artifacts.codec import ArtifactRefused
from hessian.identifiers import ErrorUnits, Wei
from hessian.learning.plain import Fields, Plain

SPLIT_RULES = ("equal", "by_rows")
_UINT128_BYTES = 16
_MONEY = ("bounty", "base_fee", "member_bond")
_COUNTS = {"initial_error": 2**64 - 1, "target_error": 2**64 - 1, "max_rounds": 2**32 - 1, "cohort_size": 2**16 - 1, "row_cap": 2**32 - 1}


class NamedRule(Protocol):
    """The contract's SplitRule."""

    @property
    def name(self) -> str:
        """EQUAL or BY_ROWS."""


class ChainTerms(Protocol):
    """What this needs of `hessian.chain.records.Terms`, which lives on a higher floor."""

    @property
    def bounty(self) -> Wei:
        """Paid in parts as the error falls."""

    @property
    def base_fee(self) -> Wei:
        """Paid for every settled round."""

    @property
    def member_bond(self) -> Wei:
        """What silence costs."""

    @property
    def initial_error(self) -> ErrorUnits:
        """Where the bounty starts."""

    @property
    def target_error(self) -> ErrorUnits:
        """Where it is all earned."""

    @property
    def max_rounds(self) -> int:
        """Paid rounds at most."""

    @property
    def cohort_size(self) -> int:
        """Members of a cohort."""

    @property
    def row_cap(self) -> int:
        """Rows one member may declare."""

    @property
    def split_rule(self) -> NamedRule:
        """How a round's pool is divided."""


@dataclass(frozen=True)
class TermsSummary:
    """Price and size of the model. Money in wei, errors in billionths, `split_rule` "equal" or "by_rows"."""

    bounty: int
    base_fee: int
    member_bond: int
    initial_error: int
    target_error: int
    max_rounds: int
    cohort_size: int
    row_cap: int
    split_rule: str

    def __post_init__(self) -> None:
        if not all(0 <= getattr(self, name) < 1 << 8 * _UINT128_BYTES for name in _MONEY):
            raise ArtifactRefused("the terms' money does not fit 128 bits")
        if not all(0 <= getattr(self, name) <= most for name, most in _COUNTS.items()) or 0 in (
            self.max_rounds,
            self.cohort_size,
            self.row_cap,
        ):
            raise ArtifactRefused("the terms hold a count that the contract would not take")
        if self.initial_error <= self.target_error:
            raise ArtifactRefused("the initial error must be above the target error")
        if self.split_rule not in SPLIT_RULES:
            raise ArtifactRefused(f"the split rule must be one of {', '.join(SPLIT_RULES)}")

    @classmethod
    def of(cls, terms: ChainTerms) -> TermsSummary:
        """The summary of the contract's terms: a manifest is this model's only if it carries exactly this."""
        return cls(
            bounty=terms.bounty,
            base_fee=terms.base_fee,
            member_bond=terms.member_bond,
            initial_error=terms.initial_error,
            target_error=terms.target_error,
            max_rounds=terms.max_rounds,
            cohort_size=terms.cohort_size,
            row_cap=terms.row_cap,
            split_rule=terms.split_rule.name.lower(),
        )

    def to_plain(self) -> dict[str, Plain]:
        """Money in 16 bytes, big-endian: wei outgrow 64 bits."""
        money: dict[str, Plain] = {name: int(getattr(self, name)).to_bytes(_UINT128_BYTES, "big") for name in _MONEY}
        return {**money, **{name: getattr(self, name) for name in _COUNTS}, "split_rule": self.split_rule}

    @classmethod
    def from_plain(cls, fields: Fields) -> TermsSummary:
        """The inverse of `to_plain`. Raises ShapeRefused, ArtifactRefused."""
        money = {name: int.from_bytes(fields.octets(name, _UINT128_BYTES), "big") for name in _MONEY}
        counts = {name: fields.integer(name, 0, most) for name, most in _COUNTS.items()}
        summary = cls(**money, **counts, split_rule=fields.text("split_rule"))
        fields.done()
        return summary
