"""Plans many owners from measured figures: what bounds them, how many coordinators, trainers and blocks they need, how long windows are.

    python benchmarks/job_figures.py                  # measures: build/job-figures.json, build/job-figures/report.json
    python benchmarks/thousand_owners.py [--owners 1000] [--report PATH] [--jobs PATH] [--json build/thousand-owners.json]

Prints Markdown and writes JSON. The model is in capacity.py. Without measured figures it says so and ends with 1. Assumed, not measured,
and to be set for the chain at hand: the pace of its blocks, the gas one holds, and how late a block is final.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.capacity import LENDER, OWNERS, SENT_BY, TRAINERS, Figures, Market, Outcome, Plan, PlanImpossible
from coordinator.jobs import JobKind
from coordinator.settings import Settings

PLACES = int(Settings.model_fields["concurrency"].default)
PROCESSES = 2  # of a trainer, as the compose files have it
ROUNDS = 3


class FiguresMissing(Exception):
    """Nothing is planned from figures that nobody measured."""


@dataclass(frozen=True)
class Scenario:
    """A way to arrange the owners. `turns`: cohorts of one model, one after the other."""

    title: str
    plan: Plan
    turns: int


def read_figures(report: Path, jobs: Path) -> tuple[Figures, dict[str, float]]:
    """The model's figures, and processor seconds per member and round by service. Raises FiguresMissing."""
    told, measured = _read(report, "python -m devstack demo"), _read(jobs, "python benchmarks/job_figures.py")
    try:
        rounds, members = len(told["rounds"]), told["owners"]
        gradient, attempts = measured["trainer"]["gradient-step"], {}
        for kind in (*SENT_BY, JobKind.CONCLUDE_CONTRIBUTION):
            mean = measured["jobs"][kind]["seconds"] / measured["jobs"][kind]["attempts"]
            attempts[kind] = max(0.0, mean - gradient) if kind is JobKind.CONTRIBUTE else mean
        spent = {name: seconds / (measured["members"] * measured["rounds"]) for name, seconds in measured["processor_seconds"].items()}
        per_round = (told["bytes"]["weights"]["total"] / told["bytes"]["weights"]["count"], told["bytes"]["report"]["total"] / rounds)
        figures = Figures(
            members=members,
            gas={name: used["total"] / used["calls"] for name, used in told["gas"].items()},
            gradient_bytes=told["bytes"]["gradient"]["total"] / told["bytes"]["gradient"]["count"],
            round_bytes=sum(per_round),
            attempt_seconds=attempts,
            gradient_seconds=gradient,
        )
    except (KeyError, ZeroDivisionError) as error:
        raise FiguresMissing(f"{report} and {jobs} lack a figure: {error!r}") from error
    return figures, spent


def _read(file: Path, maker: str) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FiguresMissing(f"there is no {file}: `{maker}` measures and writes it") from error


def scenarios(owners: int, block_seconds: float, final_seconds: float, block_gas: float) -> Iterator[Scenario]:
    """Cohorts of five as in the demo; then larger ones, nodes that many owners share, and more processes on each."""

    def plan(models: int, cohort: int, nodes: int, copies: int = 1) -> Plan:
        return Plan(
            owners=owners, models=models, cohort=cohort, rounds=ROUNDS, nodes=nodes, coordinators=copies, places=PLACES, trainers=copies,
            processes=PROCESSES, block_seconds=block_seconds, final_seconds=final_seconds, block_gas=block_gas,
        )  # fmt: skip

    few, many = min(owners, 5), min(owners, 50)
    models = math.ceil(owners / few)
    yield Scenario(f"one model, cohorts of {few} in turn, a node each", plan(1, few, few), models)
    yield Scenario(f"one model, cohorts of {many} in turn, a node each", plan(1, many, many), math.ceil(owners / many))
    yield Scenario(f"a model for every {few} at the same time, a node each", plan(models, few, owners), 1)
    yield Scenario("the same on 10 nodes", plan(models, few, 10), 1)
    yield Scenario("the same on one node", plan(models, few, 1), 1)
    yield Scenario("… with 4 coordinators, 4 trainers", plan(models, few, 1, copies=4), 1)
    yield Scenario("one model, one cohort of all, a node each", plan(1, owners, owners), 1)


def loads(plan: Plan, outcome: Outcome) -> dict[str, float]:
    """How much of each resource was in use on average, 0 to 1; of finality: the part of a round that is waiting for it."""
    places = {
        LENDER: plan.coordinators * plan.places,
        OWNERS: plan.nodes * plan.coordinators * plan.places,
        TRAINERS: plan.nodes * plan.trainers * plan.processes,
    }
    shares = {name: outcome.busy[name] / (number * outcome.seconds) for name, number in places.items()}
    shares["gas"] = outcome.gas / (plan.block_gas * outcome.seconds / plan.block_seconds)
    mean = sum(outcome.round_seconds) / len(outcome.round_seconds)
    return shares | {"finality": len(SENT_BY) * plan.final_seconds / mean}


def planned(scenario: Scenario, figures: Figures) -> dict[str, Any]:
    plan = scenario.plan
    try:
        outcome = Market(plan, figures).run()
    except PlanImpossible as error:
        return {"title": scenario.title, "impossible": str(error)}
    rounds, shares = len(outcome.round_seconds), loads(plan, outcome)
    mean = sum(outcome.round_seconds) / rounds
    return {
        "title": scenario.title,
        "plan": asdict(plan),
        "turns": scenario.turns,
        "round_seconds": mean,
        "longest_round_seconds": max(outcome.round_seconds),
        "all_owners_once_seconds": mean * scenario.turns,
        "loads": shares,
        "bound_by": max(shares, key=lambda name: shares[name]),
        "longest_wait_seconds": dict(outcome.longest_wait),
        "longest_step_seconds": {str(kind): seconds for kind, seconds in outcome.longest_step.items()},
        "attempts_per_round": sum(outcome.attempts.values()) / rounds,
        "places_needed": {name: seconds / outcome.seconds for name, seconds in outcome.busy.items()},
        "gas_per_round": outcome.gas / rounds,
        "blocks_per_round": outcome.gas / plan.block_gas / rounds,
        "ipfs_bytes_per_round": outcome.ipfs_bytes / rounds,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    titles = (
        "", "round, min", "all owners once, h", "bound by", "attempts a round", "longest wait for a place, s: owners' coordinators",
        "lender's coordinators", "trainers", "gas a round", "full blocks a round", "IPFS, kB a round",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---|" * (len(titles) - 1)]
    for row in rows:
        if "impossible" in row:
            lines.append(f"| {row['title']} | cannot be: {row['impossible']} |" + " |" * (len(titles) - 2))
            continue
        waits = [f"{row['longest_wait_seconds'][name]:.1f}" for name in (OWNERS, LENDER, TRAINERS)]
        bound = f"{row['bound_by']} ({100 * row['loads'][row['bound_by']]:.0f} %)"
        cells = (
            row["title"], f"{row['round_seconds'] / 60:.1f}", f"{row['all_owners_once_seconds'] / 3600:.1f}", bound,
            f"{row['attempts_per_round']:.0f}", *waits, f"{row['gas_per_round']:,.0f}", f"{row['blocks_per_round']:.3f}",
            f"{row['ipfs_bytes_per_round'] / 1000:.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(chosen: argparse.Namespace) -> int:
    try:
        figures, spent = read_figures(chosen.report, chosen.jobs)
    except FiguresMissing as error:
        print(f"nothing to plan with: {error}", file=sys.stderr)
        return 1
    chain = {"block_seconds": chosen.block_seconds, "final_seconds": chosen.final_seconds, "block_gas": chosen.block_gas}
    rows = [planned(scenario, figures) for scenario in scenarios(chosen.owners, **chain)]
    pace = f"a block every {chosen.block_seconds:g} s with {chosen.block_gas:,.0f} gas, final after {chosen.final_seconds:g} s"
    print(f"{chosen.owners} owners; {pace}.\n")
    print("\n".join(table(rows)))
    windows = {row["title"]: row["longest_step_seconds"] for row in rows if "longest_step_seconds" in row}
    print("\nWindows must be longer than (s):")
    for title, steps in windows.items():
        print(f"- {title}: " + ", ".join(f"{kind} {seconds:.0f}" for kind, seconds in steps.items()))
    print("\nProcessor seconds per member and round, at most: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in spent.items()))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"owners": chosen.owners, "chain": chain, "processor_seconds_per_member_and_round": spent, "scenarios": rows}
    chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, default=1000)
    parser.add_argument("--report", type=Path, default=Path("build/job-figures/report.json"), help="of a finished demo")
    parser.add_argument("--jobs", type=Path, default=Path("build/job-figures.json"), help="what job_figures.py wrote")
    parser.add_argument("--json", type=Path, default=Path("build/thousand-owners.json"), help="where the plan goes")
    parser.add_argument("--block-seconds", type=float, default=12.0, help="a slot of Ethereum")
    parser.add_argument("--final-seconds", type=float, default=1152.0, help="three of Ethereum's epochs: 96 slots")
    parser.add_argument("--block-gas", type=float, default=30_000_000.0, help="what your transactions may use of a block")
    sys.exit(main(parser.parse_args()))
