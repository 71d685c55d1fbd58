"""What the coordinator reads from its environment. Which services it has URLs of decides the roles that it plays for its node."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, HttpUrl, model_validator

from coordinator.jobs import Service
from hessian.settings import ChainSettings, DatabaseSettings, IpfsSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, ChainSettings, IpfsSettings):
    """The coordinator holds no key and no passphrase; its tokens open the other services of its own node and no more."""

    admin_token_file: Path
    coordinator_token_file: Path

    lender_url: HttpUrl | None = Field(default=None, description="lender-api of this node; absent on a node that lends nothing")
    owner_url: HttpUrl | None = Field(default=None, description="owner-api of this node; absent on a node that owns no data")
    trainer_url: HttpUrl | None = Field(default=None, description="the trainer beside owner-api")

    poll_seconds: float = Field(default=0.25, gt=0, le=60, description="how often the final block is asked for")
    range_limit: int = Field(default=1000, ge=1, le=100_000, description="blocks read in one transaction at most")
    concurrency: int = Field(default=8, ge=1, le=64, description="jobs dispatched at a time")
    stalled_seconds: float = Field(default=6.0, ge=2, le=600, description="silence after which a worker's jobs go to another")
    ready_lag_seconds: int = Field(default=60, ge=1, description="by the chain's clock; further behind the final block is not ready")

    @model_validator(mode="after")
    def _owner_needs_a_trainer(self) -> Self:
        if (self.owner_url is None) != (self.trainer_url is None):
            raise ValueError("HESSIAN_OWNER_URL and HESSIAN_TRAINER_URL belong together: set both or neither")
        return self

    @property
    def services(self) -> frozenset[Service]:
        """The neighbours that this coordinator can send jobs to."""
        urls = {Service.LENDER: self.lender_url, Service.OWNER: self.owner_url, Service.TRAINER: self.trainer_url}
        return frozenset(service for service, url in urls.items() if url is not None)
