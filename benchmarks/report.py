"""One run, one document: Markdown for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import gmpy2

Row = Mapping[str, object]


@dataclass(frozen=True)
class SectionResult:
    """A section's rows, which share their keys, under a heading and a paragraph that says what they are."""

    title: str
    text: str
    rows: Sequence[Row]


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        model = next((line.split(":")[1].strip() for line in information.read_text().splitlines() if line.startswith("model name")), model)
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "gmpy2": f"{version('gmpy2')} ({gmpy2.mp_version()})",
    }


def markdown(results: Sequence[SectionResult], command: str) -> str:
    """The whole document."""
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = ["# Benchmark", "", f"`{command}` on {where}.", ""]
    for result in results:
        lines += [f"## {result.title}", "", result.text, ""]
        if result.rows:
            columns = list(result.rows[0])
            lines += [
                _line(columns),
                _line(["---"] * len(columns)),
                *(_line([_shown(row[name]) for name in columns]) for row in result.rows),
                "",
            ]
    return "\n".join(lines)


def write(results: Sequence[SectionResult], folder: Path, command: str) -> Path:
    """Write bench.md and bench.json into the folder and return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "command": command,
        "machine": machine(),
        "sections": [{"title": result.title, "text": result.text, "rows": [dict(row) for row in result.rows]} for result in results],
    }
    (folder / "bench.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path = folder / "bench.md"
    path.write_text(markdown(results, command), encoding="utf-8")
    return path


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")
    return str(value)
