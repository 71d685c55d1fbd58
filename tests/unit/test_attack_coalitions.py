"""What several parties can do together: two cohorts that differ in one owner, a lender with every member but one (PROTOCOL §4–5, §9)."""

from __future__ import annotations

import numpy as np
from attack_scene import Cohort, real_gram, relative_error, solve, tell
from small_model import Rows, manifest, requirement, specification

from hessian.artifacts.manifest import ModelManifest
from hessian.cohorts.policy import LineageRelease, judge_lineage
from hessian.identifiers import Address, ChainId, CohortId, Timestamp
from hessian.learning.statistics import SufficientStatistics
from hessian.testing import valid_terms
from trainer.statistics import released_statistics, statistics_of

OTHERS = (Rows(1, 300), Rows(2, 280))
VICTIM, STAND_IN = Rows(3, 320), Rows(4, 310)
CLIP = 2 << 16


def models() -> tuple[ModelManifest, ModelManifest]:
    """Without and with differential privacy."""
    terms = valid_terms(Timestamp(0), cohort_size=3)
    return manifest(terms), manifest(terms, requirement())


def released(rows: Rows, model: ModelManifest) -> SufficientStatistics:
    return released_statistics([rows.csv()], model)


def difference(model: ModelManifest) -> tuple[float, float]:
    """(A, b) of the victim from two cohorts, the second with rows the lender knows in its place: relative error, and that of its counts."""
    others = tuple(released(rows, model) for rows in OTHERS)
    known = released(STAND_IN, model)
    first, second = Cohort(model, (*others, released(VICTIM, model))), Cohort(model, (*others, known))
    (one, _), (two, _) = solve(first.sum_at, model), solve(second.sum_at, model)
    found = one * first.rows - two * second.rows + real_gram(known)
    truth = real_gram(statistics_of([VICTIM.csv()], specification(), clip_norm=CLIP if model.privacy else None))
    return relative_error(found, truth), float(np.abs(found - truth).max())


def test_two_cohorts__that_differ_in_one_owner__isolate_it_unless_there_is_noise() -> None:
    exact, private = (difference(model) for model in models())
    tell("differencing: relative error of XᵀX, without the lineage rule", exact[0])
    tell("differencing: relative error of XᵀX, second cohort allowed under differential privacy", private[0])
    tell("differencing: largest error of an entry, with", private[1])

    assert exact[0] < 1e-5
    assert private[1] > 1  # σ is 26 on the diagonal: to be this close in all 14 entries is a chance below 10^-20


def test_two_cohorts__of_one_lineage__are_refused_by_the_owners_node() -> None:
    def release(cohort: int, *, privacy: bool) -> LineageRelease:
        return LineageRelease(ChainId(1), Address("0x" + "11" * 20), CohortId(cohort), requires_privacy=privacy)

    assert judge_lineage([release(1, privacy=False)], release(2, privacy=False))
    assert judge_lineage([release(1, privacy=True)], release(2, privacy=False))
    assert judge_lineage([release(1, privacy=True)], release(2, privacy=True)) == []


def last_row(model: ModelManifest) -> float:
    """The lender, all other members and somebody who knows every row of the victim but one: how far off is the row they find?"""
    data = VICTIM.csv().splitlines(keepends=True)
    clip = CLIP if model.privacy else None
    others = tuple(released(rows, model) for rows in OTHERS)
    scene = Cohort(model, (*others, released(VICTIM, model)))
    total, _ = solve(scene.sum_at, model)
    known = real_gram(statistics_of([b"".join(data[:-1])], specification(), clip_norm=clip))
    row = real_gram(statistics_of([data[0] + data[-1]], specification(), clip_norm=clip))[0]
    found = total * scene.rows - sum(map(real_gram, others)) - known
    return float(np.abs(found[0] - row).max())


def test_lender_and_all_other_members__who_know_all_rows_but_one__find_it_unless_there_is_noise() -> None:
    exact, private = (last_row(model) for model in models())
    tell("lender plus k − 1 members: largest error of an entry of the row, without noise", exact)
    tell("lender plus k − 1 members: largest error of an entry of the row, with epsilon 1", private)

    assert exact < 1e-2
    assert private > 0.1  # σ is 19: below 10^-10
