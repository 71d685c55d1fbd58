"""`make bench`: every table in one run, Markdown and JSON under build/bench/.

`make bench ARGS=--quick` takes a minute; `ARGS="--only one_step"` runs one section. Figures are processor time and so bear other work on
the machine, but publish only those of a quiet one.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from benchmarks.certificates import key_certificate
from benchmarks.floor import owner_floor
from benchmarks.members import members
from benchmarks.report import markdown, write
from benchmarks.run import FULL, QUICK, Run, Section
from benchmarks.scoring import private_quote
from benchmarks.statistics_throughput import statistics_throughput
from benchmarks.steps import one_step

SECTIONS: dict[str, Section] = {
    "one_step": one_step,
    "owner_floor": owner_floor,
    "members": members,
    "key_certificate": key_certificate,
    "private_quote": private_quote,
    "statistics_throughput": statistics_throughput,
}
"""A further table is one line here: a function from Run to SectionResult."""

OUTPUT = Path("build/bench")


def main(arguments: list[str]) -> int:
    """Run the chosen sections."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one key length, fewer sizes and repetitions")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be repeated")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    chosen = parser.parse_args(arguments)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {line}", file=sys.stderr, flush=True)

    run = Run(QUICK if chosen.quick else FULL, say)
    command = "make bench" + (f' ARGS="{shlex.join(arguments)}"' if arguments else "")
    results = [section(run) for name, section in SECTIONS.items() if not chosen.only or name in chosen.only]
    path = write(results, chosen.output, command)
    print(markdown(results, command))
    print(f"written to {path} and {path.with_suffix('.json')}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
