"""`python -m trainer.launcher`: the composition root."""

from __future__ import annotations

import asyncio
import hashlib

import structlog

from hessian.logging import configure_logging
from hessian.service.process import run_service
from hessian.settings import read_secret
from trainer.launcher.containers import Docker
from trainer.launcher.server import Launcher
from trainer.launcher.settings import LauncherSettings

log = structlog.get_logger()


async def main(stop: asyncio.Event) -> None:
    """Remove what an earlier life left, then listen until told to stop."""
    settings = LauncherSettings()
    configure_logging("launcher", level=settings.log_level, as_json=settings.log_json)
    token = read_secret(settings.launcher_token_file)
    docker = Docker(settings.launcher_image, settings.limits(), owner=owner_of(token))
    docker.check()
    log.info("launcher_ready", image=settings.launcher_image, removed=docker.sweep())
    async with Launcher(docker, token=token, containers=settings.launcher_containers).listening(settings.launcher_socket):
        await stop.wait()


def owner_of(token: str) -> str:
    """Whose the containers are. Launchers of several nodes may share one Docker, and differ in nothing but their tokens."""
    return hashlib.sha256(b"hessian launcher " + token.encode()).hexdigest()[:16]


if __name__ == "__main__":
    run_service("launcher", main)
