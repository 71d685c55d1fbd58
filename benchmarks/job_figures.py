"""What the jobs of a training run cost: the demo, with every service's `/metrics` and processor time read at its end.

    python benchmarks/job_figures.py [--json build/job-figures.json] [--directory build/job-figures]

Prints Markdown and writes JSON, which `thousand_owners.py` plans with; the demo's own `report.json` of the same run lies in the directory.
Seconds of jobs are wall time on this machine, with the whole stack and the demo on it. Processor seconds are a service's own and those of
children that it waited for; a trainer's confined jobs are not among them, the kernel's line tells what one computes.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from devstack.demo.display import Display
from devstack.demo.report import Report
from devstack.demo.run import Demo
from devstack.processes import free_port
from devstack.services import SERVICES, Service
from devstack.stack import Stack
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.events import RoundSettled
from hessian.cohorts.masks import fresh_seed
from hessian.ipfs.cid import cid_of
from trainer.gradient import Membership, gradient_step
from trainer.statistics import statistics_of

KERNEL_RUNS = 5


class MeteredStack(Stack):
    """Every service serves its metrics. Processor seconds count from the moment that all of them were ready."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, kept=False)
        self._metrics = {service.name: free_port() for service in SERVICES}
        self._began: dict[str, float] = {}

    def environment(self, service: Service) -> Mapping[str, str]:
        return {**super().environment(service), "HESSIAN_METRICS_PORT": str(self._metrics[service.name])}

    def start(self, tell: Callable[[str], None] = lambda _: None) -> None:
        super().start(tell)
        self._began = self._processor_seconds()

    def processor_seconds(self) -> dict[str, float]:
        return {name: round(seconds - self._began[name], 3) for name, seconds in self._processor_seconds().items()}

    def _processor_seconds(self) -> dict[str, float]:
        return {name: sum(psutil.Process(child.pid).cpu_times()[:4]) for name, child in self.services.items()}

    def metrics(self, service: str) -> dict[tuple[str, str], dict[str, float]]:
        """Sum and count of every histogram of attempts, by (kind, outcome); jobs by (kind, state)."""
        answer = httpx.get(f"http://127.0.0.1:{self._metrics[service]}/metrics", timeout=30.0, trust_env=False).raise_for_status()
        found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if family.name in {"hessian_job_duration_seconds", "hessian_trainer_job_seconds"} and not sample.name.endswith("_bucket"):
                    found[sample.labels["kind"], sample.labels["outcome"]][sample.name.rpartition("_")[2]] = sample.value
                elif family.name == "hessian_jobs":
                    found[sample.labels["kind"], sample.labels["state"]]["jobs"] = sample.value
        return found


def jobs_of(stack: MeteredStack) -> dict[str, dict[str, float]]:
    """By kind: jobs, attempts, seconds of all attempts."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"jobs": 0.0, "attempts": 0.0, "seconds": 0.0})
    for (kind, _), values in stack.metrics("coordinator").items():
        for name, sample in (("jobs", "jobs"), ("attempts", "count"), ("seconds", "sum")):
            found[kind][name] += values.get(sample, 0.0)
    return found


def kernel_of(demo: Demo) -> dict[str, float]:
    """Processor seconds of one gradient step, the smallest of several: the first owner's rows, the run's own manifest and weights."""
    artifacts = {kind: [demo.stack.content(cid_of(digest)) for digest in digests] for kind, digests in demo.ledger.artifacts().items()}
    manifest = ModelManifest.from_bytes(artifacts["manifest"][0], minimum_bits=demo.key_bits)
    weights = EncryptedWeights.from_bytes(artifacts["weights"][0])
    statistics = statistics_of([(demo.stack.directory / "data" / "owner-1.csv").read_bytes()], manifest.specification)
    context, others = secrets.token_bytes(32), len(demo.owners) - 1
    membership = Membership(0, statistics.rows * (others + 1), context, tuple((1, fresh_seed()) for _ in range(others)), fresh_seed())
    took = []
    for _ in range(KERNEL_RUNS):
        began = time.process_time()
        gradient_step(manifest, weights, statistics, membership)
        took.append(time.process_time() - began)
    return {"runs": KERNEL_RUNS, "processor_seconds": min(took), "members": others + 1}


def figures_of(stack: MeteredStack, demo: Demo, report: Report) -> dict[str, Any]:
    trainer = {kind: values for (kind, outcome), values in stack.metrics("trainer").items() if outcome == "ok"}
    return {
        "members": report.owners,
        "rounds": len(demo.ledger.all(RoundSettled)),
        "key_bits": report.key_bits,
        "features": report.features,
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "jobs": jobs_of(stack),
        "trainer": {kind: values["sum"] / values["count"] for kind, values in trainer.items()},
        "processor_seconds": stack.processor_seconds(),
        "kernel": kernel_of(demo),
    }


def table(figures: dict[str, Any]) -> list[str]:
    lines = ["| job | jobs | attempts | seconds of all attempts |", "|---|---|---|---|"]
    for kind, values in sorted(figures["jobs"].items()):
        lines.append(f"| {kind} | {values['jobs']:.0f} | {values['attempts']:.0f} | {values['seconds']:.2f} |")
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in figures["processor_seconds"].items())
    lines += ["", f"Processor seconds from the start of the run to its end: {spent}."]
    kernel = 1000 * figures["kernel"]["processor_seconds"]
    lines += [f"Kernel: {kernel:.0f} ms of processor time for a gradient step at {figures['key_bits']} bits."]
    lines += [f"A load of {figures['load']:.1f} on {figures['processors']} processors at the end."]
    return lines


def main(directory: Path, file: Path) -> int:
    console = Console(stderr=True)
    with MeteredStack(directory) as stack, ExitStack() as closing, Display(console) as display:
        demo = Demo(stack, display, closing)
        report = demo.play()
        figures = figures_of(stack, demo, report)
    stack.discard()
    report.write(directory / "report.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(figures)))
    return 0 if report.holds else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/job-figures.json"), help="where the figures go")
    parser.add_argument("--directory", type=Path, default=Path("build/job-figures"), help="of the stack; erased first")
    chosen = parser.parse_args()
    sys.exit(main(chosen.directory, chosen.json))
