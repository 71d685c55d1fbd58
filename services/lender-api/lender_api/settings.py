"""What lender-api is configured by. Every variable starts with HESSIAN_."""

from __future__ import annotations

from pydantic import Field

from hessian.settings import ChainSettings, DatabaseSettings, IpfsSettings, ServiceSettings, TokenSettings, VaultSettings

PRODUCTION_KEY_BITS = 2048
"""The smallest Paillier modulus that a real model may have (PROTOCOL §2)."""


class Settings(ServiceSettings, TokenSettings, DatabaseSettings, ChainSettings, IpfsSettings, VaultSettings):
    """One lender's node."""

    minimum_key_bits: int = Field(
        default=PRODUCTION_KEY_BITS,
        ge=512,
        le=8192,
        description="For tests only: lets models have keys that are too small to protect anything",
    )
