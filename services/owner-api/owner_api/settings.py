"""owner-api's variables: the shared sections, the limits of an upload, and this node's own policy."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from eth_utils.address import is_address, to_checksum_address
from pydantic import Field, HttpUrl, field_validator

from hessian.cohorts.policy import OwnerPolicy
from hessian.identifiers import Address
from hessian.privacy.requirement import UNIT
from hessian.settings import (
    ChainSettings,
    DatabaseSettings,
    IpfsSettings,
    KeySettings,
    Section,
    ServiceSettings,
    TokenSettings,
    VaultSettings,
)


class DatasetLimits(Section):
    """What an uploaded dataset may be; checked while it arrives, before anything of it becomes visible."""

    dataset_bytes: int = Field(default=512 << 20, ge=1)
    dataset_decoded_bytes: int = Field(default=4 << 30, ge=1, description="text that an uploaded Parquet file may hold, as CSV")
    dataset_rows: int = Field(default=2_000_000, ge=2)
    dataset_columns: int = Field(default=2_000, ge=2)
    dataset_cell_characters: int = Field(default=4_096, ge=1)


class PolicySettings(Section):
    """This node's own rules, kept before it joins and again before it submits (PROTOCOL §4)."""

    policy_minimum_members: int = Field(default=5, ge=1)
    policy_rows_per_feature: int = Field(default=20, ge=0)
    policy_largest_share_percent: int = Field(default=50, ge=1, le=100)
    policy_minimum_window_seconds: int = Field(default=1_800, ge=0)
    policy_allowed_members: tuple[str, ...] = Field(
        default=(), description="accounts this node shares a cohort with, as a JSON list; empty: anybody", examples=['["0xAbC…"]']
    )

    @field_validator("policy_allowed_members")
    @classmethod
    def _are_accounts(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [member for member in members if not is_address(member)]:
            raise ValueError(f"{wrong[0]!r} is no account")
        return members

    policy_epsilon_cap: Decimal = Field(
        default=Decimal(8), gt=0, le=1000, description="what all releases of rows that share one may give away together, by composition"
    )
    policy_delta: Decimal = Field(default=Decimal("0.000001"), gt=0, le=Decimal("0.001"), description="the delta that cap is reckoned at")
    policy_honest_members: int = Field(
        default=3, ge=1, description="members of a cohort, this one among them, that keep their noise secret: what epsilon_cohort assumes"
    )

    @property
    def epsilon_cap(self) -> int:
        """At 10^-15."""
        return int(self.policy_epsilon_cap * UNIT)

    @property
    def delta(self) -> int:
        """At 10^-15."""
        return max(1, int(self.policy_delta * UNIT))

    @property
    def owner_policy(self) -> OwnerPolicy:
        """As the library judges by it."""
        return OwnerPolicy(
            minimum_members=self.policy_minimum_members,
            rows_per_feature=self.policy_rows_per_feature,
            largest_share=Fraction(self.policy_largest_share_percent, 100),
            minimum_window=self.policy_minimum_window_seconds,
            allowed_members=frozenset(Address(to_checksum_address(item)) for item in self.policy_allowed_members) or None,
        )


class BorrowingSettings(Section):
    """What this node lets a borrower reveal, and how long it waits for an answer's bytes (PROTOCOL §10)."""

    borrowing_feature_sets: int = Field(default=3, ge=1, description="different feature sets one borrower may send privately in a period")
    borrowing_period_seconds: int = Field(default=30 * 86_400, ge=1, description="that period")
    borrowing_answer_seconds: int = Field(
        default=3_600, ge=0, description="by the chain's clock: an anchored answer that cannot be had for so long counts as unreadable"
    )


class OwnerApiSettings(
    ServiceSettings,
    TokenSettings,
    DatabaseSettings,
    ChainSettings,
    IpfsSettings,
    VaultSettings,
    KeySettings,
    DatasetLimits,
    PolicySettings,
    BorrowingSettings,
):
    """The service's own variables."""

    data_directory: Path = Field(description="where encrypted datasets lie")
    trainer_url: HttpUrl = Field(description="the trainer of this node")
    trainer_seconds: float = Field(default=1_200.0, gt=0, description="how long one statistics job may take")
    enrollment_workers: int = Field(default=8, ge=1, le=64, description="enrolments that move at the same time")
    enrollment_poll_seconds: float = Field(default=2.0, gt=0, description="how often waiting enrolments look at the chain by themselves")
    ticket_seconds: int = Field(default=900, ge=1, description="how long a ticket may be redeemed")
    application_poll_seconds: float = Field(
        default=2.0, gt=0, description="how often applications that wait for a neighbour are tried again"
    )
    gas_reserve_wei: int = Field(
        default=5 * 10**15, ge=0, description="ether beside the bond, or the fee, that a wallet must hold to enrol or apply"
    )
    keystore_work: int = Field(default=2**18, ge=2**12, description="scrypt's N of new keystores; a power of two")

    @property
    def contract(self) -> Address:
        """The repository's address in checksum form."""
        return Address(to_checksum_address(self.repository_address))
