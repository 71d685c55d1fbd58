"""What the launcher is told at start. Everything a container may be is decided here, by the operator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from trainer.settings import JobSettings


class LauncherSettings(JobSettings):
    """The launcher's own variables. Docker's own (`DOCKER_HOST`) say where its daemon is."""

    launcher_socket: Path = Field(description="the Unix socket to listen on; reachable for the trainer alone")
    launcher_token_file: Path
    launcher_image: str = Field(min_length=1, description="the trainer's image; its workers are the only containers that are started")
    launcher_containers: int = Field(default=16, ge=1, le=1024, description="containers at the same time, waiting ones included")
    log_level: str = "INFO"
    log_json: bool = False
