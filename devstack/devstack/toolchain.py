"""Where the project's own tools lie: the native binaries that npm brought, and what forge built with them."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from devstack.processes import ProcessFailed

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"


class ContractsNotBuilt(ProcessFailed):
    """The contracts, or the tools that build them, are not there."""


def tool(name: str) -> Path:
    """The native binary of `forge` or `anvil` (npm's own launcher swallows exit codes). Raises ContractsNotBuilt."""
    machine = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "amd64"
    binary = CONTRACTS / "node_modules" / "@foundry-rs" / f"{name}-{sys.platform}-{machine}" / "bin" / name
    if not binary.exists():
        raise ContractsNotBuilt(f"{name} is not installed for {sys.platform}-{machine}: run `make setup`")
    return binary


def compiled(contract: str) -> dict[str, Any]:
    """What forge made of a contract: ABI and bytecode. Raises ContractsNotBuilt."""
    file = CONTRACTS / "out" / f"{contract}.sol" / f"{contract}.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ContractsNotBuilt(f"{contract} is not built: run `make setup`") from error


def build() -> None:
    """Compile everything that changed. Raises ContractsNotBuilt with the compiler's words."""
    result = subprocess.run([str(tool("forge")), "build", "--skip", "test"], cwd=CONTRACTS, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ContractsNotBuilt(f"forge build failed:\n{result.stdout}{result.stderr}")
