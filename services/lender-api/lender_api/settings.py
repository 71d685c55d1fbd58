"""What lender-api is configured by. Every variable starts with HESSIAN_."""

from __future__ import annotations

from hessian.settings import ChainSettings, DatabaseSettings, IpfsSettings, KeySettings, ServiceSettings, TokenSettings, VaultSettings


class Settings(ServiceSettings, TokenSettings, DatabaseSettings, ChainSettings, IpfsSettings, VaultSettings, KeySettings):
    """One lender's node."""
