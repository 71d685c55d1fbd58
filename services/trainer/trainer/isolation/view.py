"""The files an interpreter needs to run a job, asked of an interpreter that has imported the job: no list of guessed directories."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

from trainer.isolation.worker import IsolationUnavailable

_LOADER_DIRECTORIES = ("/lib", "/lib64", "/lib32", "/libx32")
_ASK = """
import json, sys
import trainer.gradient, trainer.statistics
with open("/proc/self/maps") as maps:
    mapped = sorted({line.split(None, 5)[5].strip() for line in maps if "/" in line and ".so" in line})
print(json.dumps({"path": sys.path, "mapped": mapped}))
"""


@dataclass(frozen=True)
class View:
    """What a sandbox shows: files and directories at their own places, and the root's own symbolic links (/lib → usr/lib)."""

    shown: tuple[Path, ...]
    links: tuple[tuple[str, Path], ...]


async def needed_view() -> View:
    """For this very interpreter and its packages. Raises IsolationUnavailable when it does not even run outside a sandbox."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", _ASK, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd="/")
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise IsolationUnavailable((errors.decode("utf-8", "replace").strip().splitlines() or ["the interpreter does not run"])[-1])
    told = json.loads(output)
    return _view_of(told["path"], told["mapped"])


def _view_of(search_path: list[str], mapped: list[str]) -> View:
    interpreter = Path(sys.executable)
    wanted = {Path(entry) for entry in search_path} | {interpreter, interpreter.resolve(), Path(sys.prefix) / "pyvenv.cfg"}
    wanted |= {Path(file).parent for file in mapped if Path(file).is_file()}
    links = tuple((str(path.readlink()), path) for path in map(Path, _LOADER_DIRECTORIES) if path.is_symlink())
    wanted |= {path.resolve() for path in map(Path, _LOADER_DIRECTORIES[1:]) if path.is_dir()}
    return View(_outermost({path for path in wanted if path.exists()}), links)


def _outermost(paths: set[Path]) -> tuple[Path, ...]:
    """Without what lies inside another of them."""
    return tuple(sorted(path for path in paths if not any(parent in paths for parent in path.parents)))
