"""Where this service's migrations are."""

from __future__ import annotations

from pathlib import Path

from hessian.postgres.migration import Migrations

_MIGRATIONS = Migrations("owner_api", Path(__file__).resolve().parents[1] / "migrations")

migrate = _MIGRATIONS.run
require_head = _MIGRATIONS.require_head
