"""What this machine must have: interpreters, disk, a clock, the ports and files that the configuration names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from devstack.doctor.findings import Findings
from devstack.processes import ProcessFailed
from devstack.toolchain import ROOT, compiled
from hessian.settings import BadSettings, read_secret

LEAST_PYTHON, LEAST_NODE = (3, 11), 20
LEAST_DISK, GOOD_DISK = 1 << 30, 5 << 30
LAST_PORT = 65_535
_PATIENCE = 10.0


def examine(findings: Findings, directory: Path) -> None:
    """Interpreters, compiled contracts, disk, sandbox."""
    _python(findings)
    _node(findings)
    _contracts(findings)
    _disk(findings, directory)


def examine_files(findings: Findings, values: Mapping[str, str]) -> None:
    """Every file that a `…_file` value names. `values` by setting's name."""
    for name, path in sorted(values.items()):
        if not name.endswith("_file"):
            continue
        subject = f"secret {name.removesuffix('_file')}"
        try:
            read_secret(Path(path))
        except BadSettings as error:
            findings.wrong(subject, error.sentence, "give the file to the user that runs the service, with mode 600")
            continue
        folder = Path(path).parent
        if folder.stat().st_mode & 0o022:
            findings.wrong(subject, f"others may replace files in {folder}", f"chmod go-w {folder}")
        else:
            findings.well(subject, "readable by its owner only")


def examine_port(findings: Findings, setting: str, host: str, wanted: str) -> None:
    """Could a service listen on the port that this setting wants, now?"""
    subject, variable = setting.replace("_", " "), f"HESSIAN_{setting.upper()}"
    if not wanted.isdecimal() or (port := int(wanted)) > LAST_PORT:
        findings.wrong(subject, f"{wanted} is not a port", f"set {variable} to a number up to {LAST_PORT}")
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            remedy = f"fine when the service itself runs; else stop what listens there, or set {variable} to another one"
            findings.advice(subject, f"{host}:{port} is not free: {error.strerror}", remedy)
        else:
            findings.well(subject, f"{host}:{port} is free")


def _python(findings: Findings) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= LEAST_PYTHON:
        findings.well("Python", f"{version} at {sys.executable}")
    else:
        findings.wrong("Python", f"{version} is too old", "install Python 3.11 or newer and run `make setup` again")


def _node(findings: Findings) -> None:
    path = shutil.which("node", path=f"{ROOT / 'build/node/bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    remedy = "`make setup` takes one from PyPI when there is none; an older one on PATH has to go"
    if path is None:
        findings.wrong("Node", "there is none", remedy)
        return
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout.strip()
        is_new = int(answer.removeprefix("v").partition(".")[0]) >= LEAST_NODE
    except (OSError, ValueError, subprocess.SubprocessError):
        findings.wrong("Node", f"{path} does not tell its version", remedy)
        return
    if is_new:
        findings.well("Node", f"{answer} at {path}")
    else:
        findings.wrong("Node", f"{answer} at {path} is older than {LEAST_NODE}", remedy)


def _contracts(findings: Findings) -> None:
    try:
        compiled("ModelRepository")
        findings.well("contracts", "compiled")
    except ProcessFailed as error:
        findings.wrong("contracts", error.sentence, "make setup")


def _disk(findings: Findings, directory: Path) -> None:
    place = directory
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    sentence = f"{free / 2**30:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        findings.wrong("disk", f"{place} cannot be written to", "give the directory to this user, or choose another with --directory")
    elif free < LEAST_DISK:
        findings.wrong("disk", sentence, "free at least 1 GiB: Postgres stops when the disk is full")
    elif free < GOOD_DISK:
        findings.advice("disk", sentence, "a node with a few hundred rounds wants 5 GiB")
    else:
        findings.well("disk", sentence)
