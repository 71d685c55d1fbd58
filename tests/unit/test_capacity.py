"""The model that plans many owners: small cases by hand, nothing lost on the way, and more never being slower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.capacity import LENDER, OWNERS, SENT_BY, TRAINERS, Figures, Market, Plan, PlanImpossible
from benchmarks.thousand_owners import FiguresMissing, read_figures, scenarios
from coordinator.jobs import JobKind

FIGURES = Figures(
    members=5,
    gas={"openRound": 200.0, "submitGradient": 80.0, "acceptSubmissions": 30.0, "unlock": 90.0, "reportRound": 180.0},
    gradient_bytes=900.0,
    round_bytes=32_000.0,
    attempt_seconds=dict.fromkeys((*SENT_BY, JobKind.CONCLUDE_CONTRIBUTION), 1.0),
    gradient_seconds=2.0,
)
PLAN = Plan(
    owners=1, models=1, cohort=1, rounds=1, nodes=1, coordinators=1, places=8, trainers=1, processes=2,
    block_seconds=10.0, final_seconds=20.0, block_gas=10_000.0,
)  # fmt: skip
PER_MEMBER = (JobKind.CONTRIBUTE, JobKind.UNLOCK, JobKind.CONCLUDE_CONTRIBUTION)


def test_run__one_owner__takes_what_it_takes_by_hand() -> None:
    outcome = Market(PLAN, FIGURES).run()
    assert outcome.round_seconds == [150.0]  # work, the next block, twenty seconds to the final one: five times
    assert outcome.longest_step == dict.fromkeys(SENT_BY, 30.0)
    # attempts at 0, 1.5, 3.5, 6.5, 11.5 and 20.5 s; that at 37.5 s is superseded
    assert outcome.attempts[JobKind.OPEN_ROUND] == 6
    assert [outcome.attempts[kind] for kind in PER_MEMBER] == [1, 1, 1]


def test_run__one_trainer_process_for_four_members__they_take_turns() -> None:
    outcome = Market(replace(PLAN, cohort=4, processes=1), FIGURES).run()
    assert outcome.longest_wait[TRAINERS] == 6.0
    assert outcome.busy[TRAINERS] == 8.0
    assert outcome.longest_wait[OWNERS] == 0.0


def test_run__two_places_for_four_members__a_place_is_held_while_the_trainer_computes() -> None:
    outcome = Market(replace(PLAN, cohort=4, places=2), FIGURES).run()
    assert outcome.longest_wait[OWNERS] == 3.0  # a second of its own and two of the trainer


def test_run__a_block_holds_one_submission__as_many_blocks_as_members() -> None:
    small = replace(FIGURES, gas=dict.fromkeys(FIGURES.gas, 100.0))
    outcome = Market(replace(PLAN, cohort=3, processes=3, block_gas=100.0), small).run()
    assert outcome.blocks == [100.0] * 9
    assert outcome.round_seconds == [190.0]


def test_run__a_report_that_no_block_holds__is_said() -> None:
    with pytest.raises(PlanImpossible, match="reportRound needs 1,800 gas, a block holds 1,000: make cohorts smaller"):
        Market(replace(PLAN, cohort=50, block_gas=1000.0), FIGURES).run()


@settings(max_examples=60)
@given(
    models=st.integers(1, 4), cohort=st.integers(1, 7), rounds=st.integers(1, 3), nodes=st.integers(1, 4), places=st.integers(1, 3),
    processes=st.integers(1, 3), block_gas=st.sampled_from([260.0, 1000.0, 10_000.0]),
)  # fmt: skip
def test_run__any_plan__every_job_done_once_every_gas_in_a_block(
    models: int, cohort: int, rounds: int, nodes: int, places: int, processes: int, block_gas: float
) -> None:
    plan = replace(PLAN, models=models, cohort=cohort, rounds=rounds, nodes=nodes, places=places, processes=processes, block_gas=block_gas)
    outcome = Market(plan, FIGURES).run()
    per_round, in_all = models * rounds, models * rounds * cohort
    assert outcome.jobs == {kind: in_all if kind in PER_MEMBER else per_round for kind in (*SENT_BY, JobKind.CONCLUDE_CONTRIBUTION)}
    assert outcome.calls == {function: outcome.jobs[kind] for kind, function in SENT_BY.items()}
    spent = sum(FIGURES.gas_of(function, cohort) * calls for function, calls in outcome.calls.items())
    assert outcome.gas == pytest.approx(spent)
    assert sum(outcome.blocks) == pytest.approx(spent)
    assert max(outcome.blocks) <= block_gas
    assert outcome.busy[TRAINERS] == pytest.approx(in_all * FIGURES.gradient_seconds)
    assert outcome.busy[LENDER] == pytest.approx(sum(outcome.attempts[kind] for kind in SENT_BY if kind not in PER_MEMBER))
    assert outcome.ipfs_bytes == per_round * FIGURES.round_bytes + in_all * FIGURES.gradient_bytes
    assert len(outcome.round_seconds) == per_round
    assert min(outcome.round_seconds) >= len(SENT_BY) * (plan.final_seconds + 1.0)


@pytest.mark.parametrize("resource", ["processes", "trainers", "coordinators", "nodes", "block_gas"])
def test_run__more_of_one_resource__is_never_slower(resource: str) -> None:
    crowded = replace(PLAN, models=6, cohort=5, rounds=2, processes=1, places=2, block_gas=300.0)
    rounds = [
        max(Market(replace(crowded, **{resource: getattr(crowded, resource) * times}), FIGURES).run().round_seconds) for times in (1, 2, 4)
    ]
    assert rounds == sorted(rounds, reverse=True)


def test_gas_of__larger_cohorts_than_measured__grows_only_where_members_are_credited() -> None:
    assert (FIGURES.gas_of("reportRound", 50), FIGURES.gas_of("unlock", 50)) == (1800.0, 90.0)
    assert FIGURES.gas_of("reportRound", 2) == 180.0  # not less than what was measured


@pytest.mark.parametrize("owners", [1, 7, 1000])
def test_scenarios__any_number_of_owners__every_owner_has_a_turn(owners: int) -> None:
    for scenario in scenarios(owners, block_seconds=12.0, final_seconds=1152.0, block_gas=3e7):
        assert owners <= scenario.plan.in_flight * scenario.turns < owners + scenario.plan.cohort


def measured(directory: Path) -> tuple[Path, Path]:
    """A report and job figures, as the demo and job_figures.py write them."""
    report = {
        "owners": 5,
        "rounds": [{}, {}],
        "gas": {"unlock": {"calls": 10, "total": 900, "largest": 95}},
        "bytes": {
            "weights": {"count": 3, "total": 96_000}, "gradient": {"count": 10, "total": 9_000}, "report": {"count": 2, "total": 378},
        },
    }  # fmt: skip
    attempts = {kind: {"jobs": 2.0, "attempts": 4.0, "seconds": 8.0} for kind in (*SENT_BY, JobKind.CONCLUDE_CONTRIBUTION)}
    jobs = {"members": 5, "rounds": 2, "jobs": attempts, "trainer": {"gradient-step": 1.5}, "processor_seconds": {"owner-api": 20.0}}
    for name, content in (("report.json", report), ("jobs.json", jobs)):
        (directory / name).write_text(json.dumps(content), encoding="utf-8")
    return directory / "report.json", directory / "jobs.json"


def test_read_figures__of_a_finished_run__means_per_call_and_attempt(tmp_path: Path) -> None:
    figures, spent = read_figures(*measured(tmp_path))
    assert figures.gas == {"unlock": 90.0}
    assert (figures.gradient_bytes, figures.round_bytes) == (900.0, 32_189.0)
    assert figures.attempt_seconds[JobKind.UNLOCK] == 2.0
    assert figures.attempt_seconds[JobKind.CONTRIBUTE] == 0.5  # without the trainer's part
    assert spent == {"owner-api": 2.0}


@pytest.mark.parametrize("missing", ["report.json", "jobs.json"])
def test_read_figures__one_file_is_missing__names_it_and_what_makes_it(tmp_path: Path, missing: str) -> None:
    report, jobs = measured(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FiguresMissing, match=rf"there is no \S+{missing}: `python .* measures and writes it"):
        read_figures(report, jobs)


def test_read_figures__a_figure_is_missing__is_said(tmp_path: Path) -> None:
    report, jobs = measured(tmp_path)
    jobs.write_text("{}", encoding="utf-8")
    with pytest.raises(FiguresMissing, match="lack a figure: KeyError"):
        read_figures(report, jobs)
