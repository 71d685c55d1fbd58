"""owner-api's variables: the shared sections, the limits of an upload, and this node's own policy."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from eth_utils.address import is_address, to_checksum_address
from pydantic import Field, HttpUrl, field_validator

from hessian.cohorts.policy import OwnerPolicy
from hessian.identifiers import Address
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


class OwnerApiSettings(
    ServiceSettings, TokenSettings, DatabaseSettings, ChainSettings, IpfsSettings, VaultSettings, KeySettings, DatasetLimits, PolicySettings
):
    """The service's own variables."""

    data_directory: Path = Field(description="where encrypted datasets lie")
    trainer_url: HttpUrl = Field(description="the trainer of this node")
    trainer_seconds: float = Field(default=1_200.0, gt=0, description="how long one statistics job may take")
    enrollment_workers: int = Field(default=8, ge=1, le=64, description="enrolments that move at the same time")
    enrollment_poll_seconds: float = Field(default=2.0, gt=0, description="how often waiting enrolments look at the chain by themselves")
    ticket_seconds: int = Field(default=900, ge=1, description="how long a ticket may be redeemed")
    gas_reserve_wei: int = Field(default=5 * 10**15, ge=0, description="ether beside the bond that a wallet must hold to enrol")
    keystore_work: int = Field(default=2**18, ge=2**12, description="scrypt's N of new keystores; a power of two")

    @property
    def contract(self) -> Address:
        """The repository's address in checksum form."""
        return Address(to_checksum_address(self.repository_address))
