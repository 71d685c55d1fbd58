"""What the trainer is told at start: its tokens, where its node's owner-api is, and how much one job may use."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, HttpUrl

from hessian.settings import KeySettings, ServiceSettings


class TrainerSettings(ServiceSettings, KeySettings):
    """The trainer's own variables. It has no database, chain, IPFS or vault section on purpose (ARCHITECTURE, "Who may import whom")."""

    coordinator_token_file: Path
    trainer_token_file: Path
    owner_url: HttpUrl = Field(description="owner-api of this node, where tickets are redeemed")

    job_processes: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="jobs that run at the same time")
    job_waiting: int = Field(default=64, ge=0, description="jobs that may wait for a free place; more are told to come back")
    job_threads: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 16), ge=1, le=64, description="cores one job may use")
    job_memory_bytes: int = Field(default=2 << 30, ge=256 << 20, description="address space of one job")
    job_cpu_seconds: int = Field(default=600, ge=1, description="processor time of one job")
    job_wall_seconds: float = Field(default=900.0, gt=0, description="time of one job from its first byte to its last")
    job_output_bytes: int = Field(default=64 << 20, ge=1 << 20, description="the largest answer a job may give")
