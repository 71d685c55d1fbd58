"""What left this node of a lineage's rows: the noise that is drawn once and kept, and the budget that all releases share (PROTOCOL §5).

A release is opened by an unlock; until then a draw costs nothing, and it is kept all the same: drawn again, it would be a second sample.
"""

from __future__ import annotations

import json
import uuid

from sqlalchemy import and_, not_, select, update

from hessian.artifacts.manifest import ModelManifest
from hessian.chain.records import CohortRecord
from hessian.learning.statistics import SufficientStatistics
from hessian.postgres.session import Session
from hessian.postgres.vault import Vault
from hessian.privacy.accounting import epsilon_cohort, epsilon_of, judge_budget
from hessian.privacy.requirement import PrivacyRequirement
from owner_api.settings import OwnerApiSettings
from owner_api.tables import Dataset, Enrollment, NoisedStatistics, Release

_PURPOSE = "noised statistics"


async def kept_noise(
    session: Session, dataset_id: uuid.UUID, manifest: ModelManifest, privacy: PrivacyRequirement
) -> NoisedStatistics | None:
    """What was drawn for these rows by this mechanism, whichever model asked first."""
    mechanism = privacy.mechanism(manifest.specification)
    wanted = select(NoisedStatistics).where(NoisedStatistics.dataset_id == dataset_id, NoisedStatistics.mechanism == mechanism)
    return (await session.execute(wanted)).scalar_one_or_none()


async def keep_noise(
    session: Session, vault: Vault, dataset_id: uuid.UUID, manifest: ModelManifest, privacy: PrivacyRequirement, drawn: SufficientStatistics
) -> NoisedStatistics:
    """Seal a draw; where one is kept already, that one counts. The caller holds the enrolment, of which a lineage has one at a time."""
    kept = await kept_noise(session, dataset_id, manifest, privacy)
    if kept is None:
        mechanism = privacy.mechanism(manifest.specification)
        kept = NoisedStatistics(id=uuid.uuid4(), dataset_id=dataset_id, mechanism=mechanism, rho=privacy.rho)
        kept.sealed_statistics = vault.seal(_PURPOSE, str(kept.id), json.dumps(drawn.to_plain()).encode())
        session.add(kept)
        await session.flush()
    return kept


def open_noise(vault: Vault, kept: NoisedStatistics) -> SufficientStatistics:
    """The draw; of a deleted dataset there is none, and none is asked for. Raises KeyLost."""
    return SufficientStatistics.from_plain(json.loads(vault.open(_PURPOSE, str(kept.id), kept.sealed_statistics or b"")))


async def erase_noise(session: Session, dataset_id: uuid.UUID) -> None:
    """A dataset goes, and its statistics with it. What they gave away stays counted."""
    await session.execute(update(NoisedStatistics).where(NoisedStatistics.dataset_id == dataset_id).values(sealed_statistics=None))


async def spent(session: Session, lineage: uuid.UUID) -> dict[uuid.UUID, int]:
    """ρ at 10^-15 of every release of this lineage that was opened, once each, however many cohorts and rounds it served."""
    opened = select(NoisedStatistics.id, NoisedStatistics.rho).join(Release, Release.noised_id == NoisedStatistics.id)
    found = await session.execute(opened.where(Release.lineage == lineage).distinct())
    return {row.id: row.rho for row in found}


async def spent_by_lineage(session: Session, owner_id: uuid.UUID) -> dict[uuid.UUID, list[int]]:
    """As `spent`, for every lineage of an owner that left with noise."""
    noised = select(Release.lineage).where(Release.noised_id.is_not(None)).distinct()
    owned = noised.where(Release.lineage.in_(select(Dataset.lineage).where(Dataset.owner_id == owner_id)))
    lineages = sorted((await session.execute(owned)).scalars())
    return {lineage: list((await spent(session, lineage)).values()) for lineage in lineages}


async def budget_objections(session: Session, settings: OwnerApiSettings, dataset: Dataset, manifest: ModelManifest) -> list[str]:
    """Against one more release of this lineage. A release that was opened before costs nothing again."""
    if manifest.privacy is None:
        return []
    known, kept = await spent(session, dataset.lineage), await kept_noise(session, dataset.id, manifest, manifest.privacy)
    if kept is not None and kept.id in known:
        return []
    return judge_budget(list(known.values()), manifest.privacy.rho, limit=settings.epsilon_cap, delta=settings.delta)


def local_figure(privacy: PrivacyRequirement) -> int:
    """ε_local at the manifest's δ: everybody else colludes; any rounds, weights and cohorts of this one release."""
    return epsilon_of([privacy.rho], privacy.delta)


async def cohort_figure(
    session: Session, settings: OwnerApiSettings, enrollment: Enrollment, manifest: ModelManifest, cohort: CohortRecord
) -> int | None:
    """ε_cohort of these rows' first cohort; None where no better figure than ε_local can be claimed."""
    lineage = select(Dataset.lineage).where(Dataset.id == enrollment.dataset_id).scalar_subquery()
    here = and_(Release.chain_id == settings.chain_id, Release.contract == settings.contract, Release.cohort_id == enrollment.cohort_id)
    elsewhere = select(Release.id).where(Release.lineage == lineage, not_(here)).limit(1)
    if manifest.privacy is None or (await session.execute(elsewhere)).first() is not None:
        return None
    return epsilon_cohort(
        manifest.privacy,
        honest=min(settings.policy_honest_members, len(cohort.members)),
        rows=[member.rows for member in cohort.members],
        dimension=manifest.dimension,
        feature_bits=manifest.specification.feature_bits,
        matrix_bits=manifest.bounds.matrix_bits,
        curvature_quarters=manifest.objective.curvature_quarters,
        local_steps=manifest.objective.local_steps,
    )


async def withdraw_cohort_figures(session: Session, lineage: uuid.UUID) -> None:
    """A second cohort was opened: what the sums share out is not independent any more, and only ε_local holds."""
    datasets = select(Dataset.id).where(Dataset.lineage == lineage)
    withdrawn = update(Enrollment).where(Enrollment.dataset_id.in_(datasets)).values(epsilon_cohort=None)
    await session.execute(withdrawn, execution_options={"synchronize_session": "fetch"})
