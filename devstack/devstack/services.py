"""The four services, and the launcher that may run beside a trainer.

What `python -m` runs, which Settings class reads the environment, who has a database schema.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_settings import BaseSettings

from coordinator.settings import Settings as CoordinatorSettings
from lender_api.settings import Settings as LenderApiSettings
from owner_api.settings import OwnerApiSettings
from trainer.launcher.settings import LauncherSettings
from trainer.settings import TrainerSettings


@dataclass(frozen=True)
class Service:
    """One of the four: its import package, what it reads from its environment, and its schema if it has a database."""

    name: str
    package: str
    settings: type[BaseSettings]
    schema: str | None = None


SERVICES = (
    Service("trainer", "trainer", TrainerSettings),
    Service("lender-api", "lender_api", LenderApiSettings, schema="lender"),
    Service("owner-api", "owner_api", OwnerApiSettings, schema="owner"),
    Service("coordinator", "coordinator", CoordinatorSettings, schema="coordinator"),
)

LAUNCHER = Service("launcher", "trainer.launcher", LauncherSettings)
"""Started by nobody here: the embedded stack isolates with bubblewrap."""
