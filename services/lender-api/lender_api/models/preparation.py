"""The durable part of making a model: every step starts from the row's state, ends in one commit, and may be killed anywhere.

    preparing    key pair (stored sealed before anything that depends on it) → encrypted weights and manifest (stored)
    publishing   both to IPFS, the pins verified → createModel in the outbox
    creating     the outbox's; its handler writes the contract's number

A step that ran twice changes nothing: the key that is stored first is the model's key, and content is named by its digest.
"""

from __future__ import annotations

import asyncio
import uuid

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from hessian.artifacts import codec
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.terms import TermsSummary
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.records import Terms
from hessian.errors import Refused, Unavailable, Violated
from hessian.identifiers import Digest, ErrorUnits, digest_of
from hessian.ipfs.store import ContentStore
from hessian.learning.affine import FixedPointBounds, initial_weights
from hessian.learning.decisions import decisions_from_plain
from hessian.learning.features import FeatureSpecification
from hessian.learning.objective import Objective
from hessian.learning.plain import Fields
from hessian.paillier.certificate import KeyCertificate
from hessian.paillier.decryption import PrivateKey
from hessian.postgres.session import Session
from hessian.privacy.requirement import PrivacyRequirement
from lender_api.key_generation import generate_key
from lender_api.models.schemas import TermsIn
from lender_api.models.service import CREATE
from lender_api.models.states import ModelState, move_to
from lender_api.sending import send
from lender_api.tables import Model, ModelKey, ValidationSet, Weights
from lender_api.world import World

log = structlog.get_logger()


class PinMissing(Unavailable):
    """The IPFS node did not keep what was published."""


async def unfinished(session: Session) -> list[uuid.UUID]:
    """The models that `advance` has something to do for."""
    states = [ModelState.PREPARING.value, ModelState.PUBLISHING.value]
    return list((await session.execute(select(Model.id).where(Model.state.in_(states)).order_by(Model.number))).scalars())


async def advance(world: World, identity: uuid.UUID) -> None:
    """Take one model to `creating`, or to `failed` when it is refused on the way. Raises Unavailable."""
    try:
        await _prepare(world, identity)
        await publish(world, identity)
    except Refused as error:
        async with world.database.begin() as session:
            move_to(await _locked(session, identity), ModelState.FAILED, error.sentence)


async def _prepare(world: World, identity: uuid.UUID) -> None:
    """preparing → publishing."""
    async with world.database.begin() as session:
        model = await _locked(session, identity)
    if model.state != ModelState.PREPARING.value:
        return
    key, certificate = await ensure_key(world, model)
    async with world.database.begin() as session:
        rows = (await session.execute(select(ValidationSet).where(ValidationSet.id == model.validation_set_id))).scalar_one()
    bounds = FixedPointBounds.from_plain(model.bounds)
    start = initial_weights(rows.positives, rows.rows, len(model.features), bounds, Objective.from_plain(model.objective))
    manifest, content = await asyncio.to_thread(_artifacts, model, key, certificate, start)
    digest = digest_of(content)
    async with world.database.begin() as session:
        model = await _locked(session, identity)
        if model.state != ModelState.PREPARING.value:
            return
        session.add(
            Weights(
                model=model.id,
                version=0,
                digest=digest,
                error=model.initial_error,
                sealed_weights=world.keys.seal_weights(model.id, digest, start),
                content=content,
            )
        )
        model.manifest, model.manifest_digest, model.weights_digest = manifest, digest_of(manifest), digest
        move_to(model, ModelState.PUBLISHING)


async def ensure_key(world: World, model: Model) -> tuple[PrivateKey, KeyCertificate]:
    """The model's key pair: the stored one, or a fresh one that is stored before it is used. Raises KeyGenerationFailed, KeyLost."""
    query = select(ModelKey).where(ModelKey.model == model.id)
    async with world.database.begin() as session:
        row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        made = await generate_key(model.key_bits)
        async with world.database.begin() as session:
            await session.execute(
                insert(ModelKey)
                .values(
                    model=model.id,
                    modulus_digest=digest_of(made.modulus),
                    sealed_private_key=world.keys.seal_private_key(model.id, made.private_key),
                    certificate=codec.encode(list(made.certificate)),
                )
                .on_conflict_do_nothing()
            )
            row = (await session.execute(query)).scalar_one()
        log.info("key_stored", model=str(model.id), modulus_digest=row.modulus_digest.hex())
    parts = codec.decode(row.certificate)
    if not isinstance(parts, list):
        raise Violated("the stored certificate is not one")
    certificate = KeyCertificate.from_byte_strings([part for part in parts if isinstance(part, bytes)])
    return await asyncio.to_thread(world.keys.open_private_key, row), certificate


async def publish(world: World, identity: uuid.UUID) -> None:
    """publishing → creating. Raises IpfsUnavailable, PinMissing."""
    async with world.database.begin() as session:
        model = await _locked(session, identity)
        if model.state != ModelState.PUBLISHING.value:
            return
        await session.refresh(model, ["manifest"])
        manifest = model.manifest or b""
        content = (await session.execute(select(Weights.content).where(Weights.model == identity, Weights.version == 0))).scalar_one()
    manifest_digest, weights_digest = await put_pinned(world.store, manifest), await put_pinned(world.store, content)
    async with world.database.begin() as session:
        model = await _locked(session, identity)
        if model.state != ModelState.PUBLISHING.value:
            return
        call = world.repository.create_model(terms_of(model), manifest_digest, weights_digest)
        await send(session, world, intent=f"create:{identity}", call=call, purpose=CREATE, subject=str(identity))
        move_to(model, ModelState.CREATING)


async def put_pinned(store: ContentStore, data: bytes) -> Digest:
    """Publish and make sure that the node keeps it. Raises IpfsUnavailable, PinMissing."""
    digest = await store.put(data)
    if not await store.is_pinned(digest):
        raise PinMissing(f"the IPFS node does not keep {digest.hex()}")
    return digest


def _artifacts(model: Model, key: PrivateKey, certificate: KeyCertificate, start: list[int]) -> tuple[bytes, bytes]:
    """(manifest, encrypted weights), as they will be published. Raises ArtifactRefused."""
    manifest = ModelManifest(
        name=model.name,
        description=model.description,
        specification=FeatureSpecification.from_plain(model.specification),
        bounds=FixedPointBounds.from_plain(model.bounds),
        step=model.step,
        objective=Objective.from_plain(model.objective),
        privacy=None if model.privacy is None else PrivacyRequirement.from_plain(model.privacy),
        preparation=decisions_from_plain([Fields(item, "preparation") for item in model.preparation]),
        public_key=key.public_key,
        certificate=certificate,
        terms=TermsSummary.of(terms_of(model)),
    )
    return manifest.to_bytes(), EncryptedWeights.seal(manifest, 0, manifest.digest, key.encrypt(start)).to_bytes()


def terms_of(model: Model) -> Terms:
    """The contract's struct, from the row."""
    terms = TermsIn.model_validate(model.terms)
    return terms.to_record(initial_error=ErrorUnits(model.initial_error), cohort_size=model.cohort_size)


async def _locked(session: Session, identity: uuid.UUID) -> Model:
    return (await session.execute(select(Model).where(Model.id == identity).with_for_update())).scalar_one()
