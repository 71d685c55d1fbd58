"""What the trainer is told at start: its tokens, where its node's owner-api is, where jobs run and how much one may use."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import Field, HttpUrl

from hessian.settings import KeySettings, Section, ServiceSettings
from trainer.isolation.worker import JobLimits


class Backend(StrEnum):
    """Where a job's process runs. AUTO: bubblewrap where it works, else a plain process."""

    AUTO = "auto"
    PROCESS = "process"
    BWRAP = "bwrap"
    DOCKER = "docker"


class JobSettings(Section):
    """What one job may use; the trainer and its launcher must be told the same."""

    job_memory_bytes: int = Field(default=2 << 30, ge=256 << 20, description="address space of one job")
    job_cpu_seconds: int = Field(default=600, ge=1, description="processor time of one job")
    job_wall_seconds: float = Field(default=900.0, gt=0, description="time of one job from its first byte to its last")
    job_output_bytes: int = Field(default=64 << 20, ge=1 << 20, description="the largest answer a job may give")

    def limits(self) -> JobLimits:
        """The same as the isolation takes them."""
        return JobLimits(self.job_memory_bytes, self.job_cpu_seconds, self.job_wall_seconds, self.job_output_bytes)


class TrainerSettings(ServiceSettings, KeySettings, JobSettings):
    """The trainer's own variables. It has no database, chain, IPFS or vault section on purpose (ARCHITECTURE, "Who may import whom")."""

    coordinator_token_file: Path
    trainer_token_file: Path
    owner_url: HttpUrl = Field(description="owner-api of this node, where tickets are redeemed")

    isolation: Backend = Field(default=Backend.AUTO, description="process, bwrap, docker; auto: bwrap where it works, else process")
    launcher_socket: Path | None = Field(default=None, description="where the launcher listens; for docker")
    launcher_token_file: Path | None = Field(default=None, description="what opens the launcher; for docker")
    job_processes: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="jobs that run at the same time")
    job_waiting: int = Field(default=64, ge=0, description="jobs that may wait for a free place; more are told to come back")
    job_threads: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 16), ge=1, le=64, description="threads that read one table")
