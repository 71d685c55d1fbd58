"""Settings in sections: a service's own Settings class inherits the sections it needs and no other.

Every variable starts with `HESSIAN_`. Secrets are named by *file*, never given as values: environment variables show in process lists.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, HttpUrl
from pydantic_settings import BaseSettings, SettingsConfigDict

from hessian.errors import Refused


class BadSettings(Refused):
    """The configuration cannot work as it stands."""


class Section(BaseSettings):
    """One group of variables."""

    model_config = SettingsConfigDict(env_prefix="HESSIAN_", extra="ignore", frozen=True)


class ServiceSettings(Section):
    """Where this service listens and how it speaks."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool = False
    metrics_port: int | None = Field(default=None, ge=0, le=65535, description="Prometheus metrics, without a token; absent: none")
    metrics_host: str | None = Field(default=None, description="where the metrics are listened for; absent: HESSIAN_HOST")
    traces_url: HttpUrl | None = Field(default=None, description="OTLP over HTTP, as http://collector:4318/v1/traces; absent: no traces")
    start_seconds: float = Field(default=30.0, ge=0, description="how long a neighbour may be silent at start before this service gives up")


class TokenSettings(Section):
    """Bearer tokens of this node, one file each (32 random bytes or more, in text)."""

    admin_token_file: Path
    coordinator_token_file: Path
    trainer_token_file: Path


class DatabaseSettings(Section):
    """Postgres: the URL without the password, the password in a file."""

    database_url: str = Field(description="postgresql+psycopg://role@host:port/database")
    database_password_file: Path


class ChainSettings(Section):
    """The Ethereum node and the two contracts this service trusts."""

    rpc_url: HttpUrl
    chain_id: int = Field(ge=1)
    repository_address: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    repository_block: int = Field(default=0, ge=0, description="block in which ModelRepository was made; nothing is read before it")
    deployment_address: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="ModelDeployment, made for that ModelRepository")


def market_of(settings: ChainSettings) -> str:
    """What all nodes of one market have in common, in words: its chain and its contract."""
    return f"{settings.chain_id}:{settings.repository_address.lower()}"


class IpfsSettings(Section):
    """Kubo's RPC, or the embedded block store that speaks the same."""

    ipfs_url: HttpUrl


class VaultSettings(Section):
    """What opens the keys at rest."""

    passphrase_file: Path


class KeySettings(Section):
    """How long a Paillier modulus must be before this node works with it."""

    minimum_key_bits: int = Field(default=2048, ge=256, description="smaller moduli are refused; below 2048 is for tests only")


def read_secret(path: Path) -> str:
    """The secret in a file, without its line end. Raises BadSettings when missing, empty or readable by others."""
    try:
        status = path.stat()
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadSettings(f"the secret file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"the secret file {path} holds something else than text") from error
    if not secret:
        raise BadSettings(f"the secret file {path} is empty")
    # an orchestrator hands out files of root's, lent to the group of the one process that is to read them
    lent = status.st_uid == 0 and status.st_gid == os.getegid() != 0
    if status.st_mode & (0o037 if lent else 0o077):
        raise BadSettings(f"the secret file {path} can be read by other users: chmod 600 {path}")
    return secret
