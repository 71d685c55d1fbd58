"""How many private quotes one lender's node and one borrowers' node get done: everybody applies at once, at the end of the demo's run.

    python -m benchmarks.quotes_per_second [--borrowers 32] [--json build/bench/quotes-per-second.json]

The whole stack, the chain and this program share the machine. Seconds count from the first application to the last quote whose answer is
final. Processor seconds are a service's own over the same time; the trainer's confined jobs are not among them.
Prints Markdown, writes JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.job_figures import MeteredStack
from devstack.demo.display import Display
from devstack.demo.lending import BORROWERS_ETHER
from devstack.demo.parties import Borrower, Rest
from devstack.demo.quotes import FEE
from devstack.demo.run import Demo
from devstack.processes import ProcessFailed

PATIENCE = 600.0
POLL_SECONDS = 0.5
DONE = ("quoted", "unreadable", "expired", "failed")


class QuotesMissing(ProcessFailed):
    """Somebody got no quote, so there is no figure."""


def applicants(stack: MeteredStack, deployment: dict[str, Any], count: int) -> list[dict[str, str]]:
    """As many test rows, named as the deployment's features. Raises QuotesMissing when the test set is smaller."""
    with (stack.directory / "data" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) < count:
        raise QuotesMissing(f"there are {len(rows)} test rows for {count} borrowers")
    names = [feature["name"] for feature in deployment["offer"]["features"]]
    return [{name: row[name] for name in names} for row in rows[:count]]


def borrowers(stack: MeteredStack, count: int, closing: ExitStack) -> list[Borrower]:
    """So many, with a wallet each that can pay."""
    url = stack.url("owner-api")
    with Rest(url, stack.token("admin")) as admin:
        made = [closing.enter_context(Borrower(url, admin.post("/v1/owners", {"name": f"borrower {place}"}))) for place in range(count)]
    for borrower in made:
        stack.anvil.fund(borrower.address, BORROWERS_ETHER)
    return made


def quoted(stack: MeteredStack, waiting: dict[Borrower, float]) -> Iterator[float]:
    """Seconds from each one's application to its quote, in the order of the quotes. Raises QuotesMissing."""
    until = time.monotonic() + PATIENCE
    while waiting:
        stack.require_alive()
        for borrower in list(waiting):
            application = borrower.application()
            if application["state"] not in DONE:
                continue
            if application["state"] != "quoted":
                raise QuotesMissing(f"an application ended as {application['state']}: {application['reason']}")
            yield time.monotonic() - waiting.pop(borrower)
        if time.monotonic() > until:
            raise QuotesMissing(f"{len(waiting)} borrowers have no quote after {PATIENCE:g} s")
        time.sleep(POLL_SECONDS)


def burst(stack: MeteredStack, count: int, closing: ExitStack) -> dict[str, Any]:
    """All apply, one request after the other; wait for every quote."""
    with Rest(stack.url("owner-api"), stack.token("admin")) as admin:
        [listed] = admin.all("/v1/deployments")
        deployment = admin.get(f"/v1/deployments/{listed['deployment_id']}")
    people = list(zip(borrowers(stack, count, closing), applicants(stack, deployment, count), strict=True))
    spent, began, waiting = stack.processor_seconds(), time.monotonic(), dict[Borrower, float]()
    for borrower, features in people:
        waiting[borrower] = time.monotonic()
        borrower.apply(deployment["deployment_id"], features, FEE)
    applied = time.monotonic() - began
    latencies = sorted(quoted(stack, waiting))
    seconds = time.monotonic() - began
    return {
        "borrowers": count,
        "seconds": round(seconds, 2),
        "quotes_per_second": round(count / seconds, 2),
        "seconds_to_apply": round(applied, 2),
        "median_latency": round(statistics.median(latencies), 2),
        "longest_latency": round(latencies[-1], 2),
        "processor_seconds": {name: round(value - spent[name], 2) for name, value in stack.processor_seconds().items()},
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """Markdown."""
    shown = ("borrowers", "seconds", "quotes_per_second", "median_latency", "longest_latency")
    per_quote = (f"{name} {1000 * value / figures['borrowers']:.0f}" for name, value in figures["processor_seconds"].items())
    return [
        "| " + " | ".join(name.replace("_", " ") for name in shown) + " |",
        "|" + "---|" * len(shown),
        "| " + " | ".join(str(figures[name]) for name in shown) + " |",
        "",
        f"Processor milliseconds a quote: {', '.join(per_quote)}. A load of {figures['load']} on {figures['processors']} processors.",
    ]


def main(count: int, directory: Path, file: Path) -> int:
    """Train, deploy, and let everybody apply."""
    with MeteredStack(directory) as stack, ExitStack() as closing, Display(Console(stderr=True)) as display:
        report = Demo(stack, display, closing).play()
        display.say(f"{count} borrowers apply at once")
        figures = burst(stack, count, closing)
    stack.discard()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(figures)))
    return 0 if report.holds else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--borrowers", type=int, default=32)
    parser.add_argument("--json", type=Path, default=Path("build/bench/quotes-per-second.json"), help="where the figures go")
    parser.add_argument("--directory", type=Path, default=Path("build/quotes-per-second"), help="of the stack; erased first")
    chosen = parser.parse_args()
    sys.exit(main(chosen.borrowers, chosen.directory, chosen.json))
