"""What each isolation of the trainer costs: a worker from nothing to ready, a job that finds a worker waiting, a job that finds none.

    python benchmarks/isolation.py [--runs 20] [--image hessian/trainer:local] [--json build/isolation.json]

Prints Markdown (medians, with the fastest and the slowest run) and writes the same as JSON. A backend that does not work here is named with
its reason. The job is the smallest real one: statistics of ten rows.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))

from small_model import KEY_BITS, Rows, manifest

from hessian.identifiers import Timestamp
from hessian.logging import configure_logging
from hessian.testing import valid_terms
from trainer.isolation.bubblewrap import BubblewrapIsolation
from trainer.isolation.container import ContainerIsolation
from trainer.isolation.local import ProcessIsolation
from trainer.isolation.worker import Isolation, IsolationUnavailable, JobLimits
from trainer.job import Job
from trainer.launcher.containers import Docker, DockerUnavailable
from trainer.launcher.server import Launcher
from trainer.pool import JobPool

LIMITS = JobLimits(memory_bytes=1 << 30, cpu_seconds=60, wall_seconds=60.0, output_bytes=1 << 20)
BACKENDS = ("process", "bwrap", "docker")
MEASURES = {"start": "a worker, from nothing to ready", "waiting": "a job, a worker waits for it", "cold": "a job, no worker waits"}


@asynccontextmanager
async def isolated(backend: str, image: str) -> AsyncIterator[Isolation]:
    if backend == "process":
        yield ProcessIsolation(LIMITS)
    elif backend == "bwrap":
        yield await BubblewrapIsolation.prepare(LIMITS)
    else:
        docker = Docker(image, LIMITS, owner=f"benchmark-{os.getpid()}")
        docker.check()
        with tempfile.TemporaryDirectory() as directory:
            socket = Path(directory) / "launcher"
            async with Launcher(docker, token="benchmark", containers=8).listening(socket):
                yield ContainerIsolation(LIMITS, socket=socket, token="benchmark")


async def measure(isolation: Isolation, runs: int) -> dict[str, list[float]]:
    of = manifest(valid_terms(Timestamp(0)))
    manifest_text = base64.b64encode(of.to_bytes()).decode()
    header = json.dumps({"manifest": manifest_text, "minimum_key_bits": KEY_BITS, "threads": 1}).encode()
    rows = Rows(1, 10).csv()

    async def body() -> AsyncIterator[bytes]:
        yield rows

    took: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(runs):
        began = time.perf_counter()
        worker = await isolation.start()
        took["start"].append(time.perf_counter() - began)
        await worker.end()
        async with JobPool(isolation, processes=1, waiting=1) as pool:
            for name in ("waiting", "cold"):
                began = time.perf_counter()
                await pool.run(Job.STATISTICS, header, body())
                took[name].append(time.perf_counter() - began)
    return took


async def measured(runs: int, image: str) -> tuple[list[str], dict[str, Any]]:
    """The table's lines, and every figure."""
    report: dict[str, Any] = {"runs": runs, "processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    lines = [f"| median of {runs} (fastest–slowest), ms | {' | '.join(MEASURES.values())} |", f"|---|{'---|' * len(MEASURES)}"]
    for backend in BACKENDS:
        try:
            async with isolated(backend, image) as isolation:
                took = await measure(isolation, runs)
        except (IsolationUnavailable, DockerUnavailable) as error:
            lines.append(f"| {backend} | not here: {error} |{' |' * (len(MEASURES) - 1)}")
            report[backend] = {"missing": str(error)}
            continue
        cells = [f"{1000 * statistics.median(took[m]):.0f} ({1000 * min(took[m]):.0f}–{1000 * max(took[m]):.0f})" for m in MEASURES]
        lines.append(f"| {backend} | {' | '.join(cells)} |")
        report[backend] = {name: {"median": statistics.median(all_), "all": all_} for name, all_ in took.items()}
    return lines, report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--image", default="hessian/trainer:local", help="the trainer's image, for docker")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    chosen = parser.parse_args()
    configure_logging("benchmark", level="ERROR")
    table, figures = asyncio.run(measured(chosen.runs, chosen.image))
    print("\n".join(table))
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
