"""This node's policy applied to what the chain, the manifest and its own history say (PROTOCOL §4, "Owner-side policy")."""

from __future__ import annotations

from hessian.artifacts.manifest import ModelManifest
from hessian.chain.records import CohortRecord, Terms
from hessian.cohorts.masks import unusable_keys
from hessian.cohorts.policy import CohortFacts, LineageRelease, ModelFacts, judge_cohort, judge_lineage, judge_model
from hessian.identifiers import Address
from hessian.postgres.session import Session
from owner_api.datasets import lineage as lineages
from owner_api.releases import budget_objections
from owner_api.settings import OwnerApiSettings
from owner_api.tables import Dataset

ANY_COHORT = 0
"""Stands for a cohort that is not chosen yet: every earlier release is one of another cohort."""


def model_objections(settings: OwnerApiSettings, terms: Terms, *, alone_confirmed: bool) -> list[str]:
    """Against any cohort of a model whose manifest, certificate included, was verified."""
    windows = (
        ("submit", terms.submit_window),
        ("accept", terms.accept_window),
        ("unlock", terms.unlock_window),
        ("evaluate", terms.evaluate_window),
    )
    facts = ModelFacts(cohort_size=terms.cohort_size, windows=windows, certificate_valid=True)
    return judge_model(settings.owner_policy, facts, single_confirmed=alone_confirmed)


def cohort_objections(
    settings: OwnerApiSettings, cohort: CohortRecord, *, cohort_size: int, dimension: int, joining: tuple[Address, int] | None = None
) -> list[str]:
    """Against a cohort as it stands, with `joining` (account, rows) added. Its masking keys are tried out: one that no member can compute
    with would keep every honest member silent, and cost it its bond."""
    members = [(member.account, member.rows) for member in cohort.members]
    if joining is not None:
        members.append(joining)
    objections = judge_cohort(settings.owner_policy, CohortFacts(cohort_size=cohort_size, dimension=dimension, members=tuple(members)))
    unusable = unusable_keys([member.masking_key for member in cohort.members])
    return objections + [f"the masking key of member {cohort.members[index].account} cannot be used" for index in unusable]


async def lineage_objections(
    session: Session, settings: OwnerApiSettings, dataset: Dataset, manifest: ModelManifest, cohort_id: int
) -> list[str]:
    """Against opening rows of this dataset's lineage to this cohort: one cohort in all, or noise in each and together within the cap."""
    earlier = [
        LineageRelease(release.chain_id, release.contract, release.cohort_id, requires_privacy=release.noised_id is not None)
        for release in await lineages.released_cohorts(session, dataset.lineage)
    ]
    candidate = LineageRelease(settings.chain_id, settings.contract, cohort_id, requires_privacy=manifest.privacy is not None)
    return judge_lineage(earlier, candidate) + await budget_objections(session, settings, dataset, manifest)
