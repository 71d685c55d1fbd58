"""The catalogue: models as the final block has them, with manifests that this node fetched, hashed, parsed and verified itself."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from hessian.artifacts.manifest import ModelManifest
from hessian.chain.records import ModelRecord, ModelState, SplitRule, Terms
from hessian.errors import Conflict, NotFound, Refused
from hessian.identifiers import Digest, ModelId
from hessian.postgres.session import Session
from hessian.privacy.accounting import check_claim
from owner_api.catalogue.schemas import feature_read, privacy_read
from owner_api.states import EnrollmentState
from owner_api.tables import CatalogueModel, Enrollment
from owner_api.world import World

log = structlog.get_logger()
_ACTIVE = [state for state in EnrollmentState if state.is_active]


class ModelNotFound(NotFound):
    """The catalogue has no such model."""


class ManifestNotUsable(Conflict):
    """The model's manifest was refused: this node does not work with it."""


@dataclass(frozen=True)
class Listing:
    """A model this node could work with."""

    model_id: ModelId
    state: ModelState
    terms: Terms
    manifest_digest: Digest
    manifest_bytes: bytes
    manifest: ModelManifest


async def refresh(world: World, model_id: ModelId) -> None:
    """Re-read a model at the final block; fetch and verify its manifest if that has not been done. Wakes the model's enrolments.

    Raises ModelUnknown, ChainUnavailable, IpfsUnavailable. A manifest that is bad is no error here: the catalogue says so.
    """
    final = await world.chain.final_block()
    model = await world.repository.model(model_id, final)
    cohort = await world.repository.cohort(model.forming_cohort_id, final) if model.forming_cohort_id else None
    async with world.database.begin() as session:
        known = await session.get(CatalogueModel, model_id)
    examined = known is not None and known.manifest_digest == model.manifest_digest and (known.manifest or known.problem)
    content = {} if examined else await _examine(world, model)
    values: dict[str, Any] = {
        "lender": model.lender,
        "state": model.state.name.lower(),
        "is_closed": model.is_closed,
        "best_error": model.best_error,
        "rounds_paid": model.rounds_paid,
        "terms": {name: str(int(value)) for name, value in asdict(model.terms).items()},
        "forming_cohort_id": model.forming_cohort_id,
        "forming_members": len(cohort.members) if cohort else 0,
        "manifest_digest": model.manifest_digest,
        "seen_block": final.number,
    } | content
    newer = CatalogueModel.seen_block <= final.number
    async with world.database.begin() as session:
        await session.execute(
            insert(CatalogueModel)
            .values(model_id=model_id, **values)
            .on_conflict_do_update(index_elements=["model_id"], set_=values | {"updated_at": func.now()}, where=newer)
        )
        waking = update(Enrollment).where(Enrollment.model_id == model_id, Enrollment.state.in_(_ACTIVE))
        await session.execute(waking.values(next_try_at=func.now()))
    world.to_enroll.set()


async def _examine(world: World, model: ModelRecord) -> dict[str, Any]:
    """Fetch and verify a manifest. Raises IpfsUnavailable: content that cannot be had is not content that is bad."""
    try:
        data = await world.store.get(model.manifest_digest)
        manifest = await asyncio.to_thread(_verified, data, model.terms, world.settings.minimum_key_bits)
    except Refused as refusal:
        log.warning("manifest_refused", digest=model.manifest_digest.hex(), reason=refusal.sentence)
        return {"problem": refusal.sentence, "manifest": None, "summary": None}
    world.manifests[model.manifest_digest] = manifest
    summary = {
        "name": manifest.name,
        "description": manifest.description,
        "dimension": manifest.dimension,
        "columns": list(manifest.specification.columns),
        "features": [feature_read(feature).model_dump() for feature in manifest.specification.features],
        "label": manifest.specification.label.column,
        "positive": list(manifest.specification.label.positive),
        "negative": list(manifest.specification.label.negative),
        "loss": manifest.objective.loss,
        "local_steps": manifest.objective.local_steps,
        "metric": manifest.metric,
        "privacy": None if manifest.privacy is None else privacy_read(manifest.privacy, manifest.specification.feature_bits).model_dump(),
        "key_bits": manifest.public_key.bits,
    }
    return {"problem": None, "manifest": data, "summary": summary}


def _verified(data: bytes, terms: Terms, minimum_bits: int) -> ModelManifest:
    """Raises ArtifactRefused, CertificateRefused, PrivacyRefused."""
    manifest = ModelManifest.from_bytes(data, minimum_bits=minimum_bits)
    manifest.check_against(terms)
    manifest.verify_certificate()
    if manifest.privacy is not None:
        check_claim(manifest.privacy)
    return manifest


async def ensure_listed(world: World, model_id: int) -> None:
    """Read a model now if the catalogue lacks it. The caller holds no session: none waits for content, or for a second connection.

    Raises ModelUnknown, Unavailable.
    """
    async with world.database.begin() as session:
        is_listed = await session.get(CatalogueModel, model_id) is not None
    if not is_listed:
        await refresh(world, ModelId(model_id))


async def require_listing(session: Session, world: World, model_id: int) -> Listing:
    """A model with its verified manifest, as the catalogue has it. Raises ModelNotFound, ManifestNotUsable."""
    row = await find(session, model_id)
    if row.manifest is None:
        raise ManifestNotUsable(f"this node does not work with model {model_id}: {row.problem}")
    if row.manifest_digest not in world.manifests:
        # it was verified before it was stored; parsing builds it anew after a restart
        parse = ModelManifest.from_bytes
        world.manifests[row.manifest_digest] = await asyncio.to_thread(parse, row.manifest, minimum_bits=world.settings.minimum_key_bits)
    return Listing(
        model_id=ModelId(model_id),
        state=ModelState[row.state.upper()],
        terms=terms_of(row),
        manifest_digest=row.manifest_digest,
        manifest_bytes=row.manifest,
        manifest=world.manifests[row.manifest_digest],
    )


def terms_of(row: CatalogueModel) -> Terms:
    """The terms as the contract has them."""
    plain: dict[str, Any] = {name: int(value) for name, value in row.terms.items()}
    return Terms(**plain | {"split_rule": SplitRule(plain["split_rule"])})


async def find(session: Session, model_id: int) -> CatalogueModel:
    """Raises ModelNotFound."""
    row = await session.get(CatalogueModel, model_id)
    if row is None:
        raise ModelNotFound
    return row


async def page(session: Session, after: int, limit: int) -> list[CatalogueModel]:
    """Models in order of their ids, one more than `limit` where there are more."""
    wanted = select(CatalogueModel).where(CatalogueModel.model_id > after).order_by(CatalogueModel.model_id).limit(limit + 1)
    return list((await session.execute(wanted)).scalars())
