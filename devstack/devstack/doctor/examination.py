"""What is examined: this machine, and then the embedded stack in a directory, or a service as its environment configures it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from devstack.doctor import machine, neighbours
from devstack.doctor.findings import Findings
from devstack.health import readiness
from devstack.services import SERVICES
from devstack.stack import Stack
from devstack.supervisor import status_of

_PREFIX = "HESSIAN_"


def examine(directory: Path, environment: Mapping[str, str] = os.environ) -> Findings:
    """Look at everything there is. With HESSIAN_ variables set, at what they name; else at the embedded stack of `directory`."""
    findings = Findings()
    machine.examine(findings, directory)
    configured = {name.removeprefix(_PREFIX).lower(): value for name, value in environment.items() if name.startswith(_PREFIX) and value}
    if configured:
        _configured(findings, configured)
    elif (state := status_of(directory)) == "running":
        _embedded(findings, directory)
    else:
        findings.advice(
            "stack", f"{state} in {directory}", "`make up` starts one; or set a service's HESSIAN_ variables to have them examined"
        )
    return findings


def _configured(findings: Findings, values: Mapping[str, str]) -> None:
    machine.examine_files(findings, values)
    host = values.get("host", "127.0.0.1")
    for setting, listening in (("port", host), ("metrics_port", values.get("metrics_host", host))):
        if setting in values:
            machine.examine_port(findings, setting, listening, values[setting])
    asyncio.run(_neighbours(findings, values))


async def _neighbours(findings: Findings, values: Mapping[str, str]) -> None:
    for needed, examine_it in (
        ({"database_url", "database_password_file"}, neighbours.examine_database),
        ({"rpc_url", "chain_id", "repository_address", "deployment_address"}, neighbours.examine_chain),
        ({"ipfs_url"}, neighbours.examine_ipfs),
    ):
        if needed <= values.keys():
            await examine_it(findings, values)


def _embedded(findings: Findings, directory: Path) -> None:
    stack = Stack(directory, kept=True)
    stack.load()
    told = [(service, stack.environment(service)) for service in SERVICES]
    values = [{name.removeprefix(_PREFIX).lower(): value for name, value in one.items() if name.startswith(_PREFIX)} for _, one in told]
    machine.examine_files(findings, {name: value for one in values for name, value in one.items()})
    asyncio.run(_stand(findings, values))
    for answer in readiness({service.name: stack.url(service.name) for service in SERVICES}):
        if answer.is_ready:
            findings.well(answer.service, "ready")
        else:
            findings.wrong(answer.service, "; ".join(answer.complaints), f"its log is {stack.logs / answer.service}.log")


async def _stand(findings: Findings, values: list[dict[str, str]]) -> None:
    for service, of_service in zip(SERVICES, values, strict=True):
        if service.schema is not None:
            await neighbours.examine_database(findings, of_service, subject=f"Postgres for {service.name}")
    shared = {name: value for one in values for name, value in one.items()}
    await neighbours.examine_chain(findings, shared)
    await neighbours.examine_ipfs(findings, shared)
