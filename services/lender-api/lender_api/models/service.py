"""A lender's models: taking the wish, reading, closing. What takes long (the key, publishing) is preparation.py's."""

from __future__ import annotations

import asyncio
import uuid

from sqlalchemy import event, func, select

from hessian.artifacts.manifest import ModelManifest
from hessian.chain.blocks import Block
from hessian.chain.records import ModelRecord
from hessian.errors import Conflict, Malformed, NotFound, Unavailable
from hessian.identifiers import Address, ModelId, Wei
from hessian.learning.columns import Label
from hessian.learning.fitting import Outline
from hessian.paillier.keys import MINIMUM_BITS
from hessian.postgres.session import Session
from hessian.service import transfers
from lender_api.models.fit import fit_model
from lender_api.models.schemas import CreateModel, WeightsRead
from lender_api.models.states import ModelState, follow_chain
from lender_api.models.terms import check_terms
from lender_api.sending import send
from lender_api.tables import Model, Outbox, Weights
from lender_api.validation_sets import service as validation_sets
from lender_api.world import World

CREATE, CLOSE = "create_model", "close_model"
GAS_RESERVE = Wei(10**16)
"""What a wallet keeps beside an escrow for the model's transactions."""

_CREATION_NOT_SENT = (ModelState.PREPARING.value, ModelState.PUBLISHING.value)
"""From the next state on the escrow is the outbox's: the row is written with the change of state."""


class ModelUnknown(NotFound):
    """There is no such model."""


class KeyTooSmall(Malformed):
    """The Paillier key would be too small."""


class BalanceTooLow(Conflict):
    """The wallet's balance does not cover the escrow."""


class CreationNotSettled(Unavailable):
    """A model's creation is not settled here yet."""


class ModelNotOnChain(Conflict):
    """The model is not on chain."""


class ModelAlreadyClosed(Conflict):
    """The model is closed already."""


class RoundInFlight(Conflict):
    """A round of the model is in flight; it has to end first."""


async def create(session: Session, world: World, request: CreateModel) -> Model:
    """Fit, judge, and write the row that the preparation worker takes on.

    Raises what `fit_model` and `check_terms` raise, KeyTooSmall, BalanceTooLow, ValidationSetUnknown; then nothing is stored.
    """
    if request.key_bits < world.minimum_key_bits:
        raise KeyTooSmall(f"a key of {request.key_bits} bits is too small: {max(world.minimum_key_bits, MINIMUM_BITS)} is the least")
    rows = await validation_sets.get(session, request.validation_set_id)
    outline = Outline(
        features=tuple(feature.to_outline() for feature in request.features),
        label=Label(rows.label, (rows.positive,), tuple(rows.negatives)),
        feature_bits=request.feature_bits,
        clip_deviations=request.clip_deviations,
        relevance_floor=request.relevance_floor_billionths(),
    )
    cells = await validation_sets.cells(session, world, rows, outline.columns)
    objective = request.objective.to_objective()
    wish = None if request.privacy is None else request.privacy.to_wish()
    fitted = await asyncio.to_thread(
        fit_model, outline, cells, objective, key_bits=request.key_bits, cohort_size=request.cohort_size, privacy=wish
    )
    terms = request.terms.to_record(initial_error=fitted.error, cohort_size=request.cohort_size)
    block = await world.chain.final_block()
    check_terms(terms, minimum_window=await world.repository.minimum_window(block), now=block.timestamp)
    await _require_balance(session, world, terms.escrow)
    model = Model(
        id=uuid.uuid4(),
        validation_set_id=rows.id,
        name=request.name,
        description=request.description,
        state=ModelState.PREPARING.value,
        key_bits=request.key_bits,
        cohort_size=request.cohort_size,
        terms=request.terms.model_dump(mode="json"),
        specification=fitted.specification.to_plain(),
        bounds=fitted.bounds.to_plain(),
        objective=objective.to_plain(),
        privacy=None if fitted.privacy is None else fitted.privacy.to_plain(),
        preparation=[decision.model_dump(mode="json") for decision in request.preparation],
        features=list(fitted.specification.names),
        step=fitted.step,
        escrow_wei=terms.escrow,
        initial_error=fitted.error,
        best_error=fitted.error,
    )
    session.add(model)
    await session.flush()
    await session.refresh(model)
    event.listen(session.sync_session, "after_commit", lambda _: world.to_prepare.set(), once=True)
    return model


async def _require_balance(session: Session, world: World, escrow: Wei) -> None:
    """Raises BalanceTooLow."""
    funds = await transfers.funds(world.chain, world.keys.address)  # before the lock: no other promise waits for the Ethereum node
    leaving = await promised(session, world.keys.address, funds.block)
    if funds.balance < leaving + escrow + GAS_RESERVE:
        reserved = f", {leaving} wei of it promised to models and transfers on their way" if leaving else ""
        raise BalanceTooLow(
            f"the wallet {world.keys.address} holds {funds.balance} wei{reserved}; this model needs {escrow} wei of escrow "
            f"and {GAS_RESERVE} wei for gas"
        )


async def promised(session: Session, wallet: Address, at: Block) -> Wei:
    """Escrows of models on their way, and what else is about to leave the wallet: all that its balance at a block still holds.

    Holds a lock until the transaction ends, so that of two promises at once the second one counts the first. States before the outbox: an
    escrow that goes from the one to the other meanwhile is counted twice and not left out.
    """
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("lender escrow", 0))))
    waiting = select(func.sum(Model.escrow_wei)).where(Model.state.in_(_CREATION_NOT_SENT))
    escrows = int((await session.execute(waiting)).scalar_one() or 0)
    return Wei(escrows + await transfers.promised(session, Outbox, wallet, at))


async def get(session: Session, identity: uuid.UUID) -> Model:
    """Raises ModelUnknown."""
    model = (await session.execute(select(Model).where(Model.id == identity))).scalar_one_or_none()
    if model is None:
        raise ModelUnknown
    return model


async def by_chain_id(session: Session, model_id: ModelId) -> Model | None:
    """Our row of a model on chain, locked: what is decided about its rounds is decided one after the other.

    None when this database never created it. Raises CreationNotSettled while it might still be one of those on their way.
    """
    model = (await session.execute(select(Model).where(Model.model_id == model_id).with_for_update())).scalar_one_or_none()
    if model is None and (await session.execute(select(Model.id).where(Model.state == ModelState.CREATING.value).limit(1))).first():
        raise CreationNotSettled
    return model


async def manifest_of(session: Session, world: World, model: Model) -> ModelManifest:
    """Our own published manifest."""
    await session.refresh(model, ["manifest"])
    return ModelManifest.from_bytes(model.manifest or b"", minimum_bits=world.minimum_key_bits)


async def weights(session: Session, world: World, identity: uuid.UUID) -> WeightsRead:
    """The newest weights in plain. Raises ModelUnknown, ModelNotOnChain while there are none, KeyLost."""
    model = await get(session, identity)
    query = select(Weights).where(Weights.model == model.id).order_by(Weights.version.desc()).limit(1)
    row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        raise ModelNotOnChain("the model's first weights are still being made")
    return WeightsRead(
        version=row.version,
        digest=row.digest,
        error=row.error,
        scale_bits=int(model.bounds["weight_bits"]),
        features=model.features,
        weights=world.keys.open_weights(row),
    )


async def close(session: Session, world: World, identity: uuid.UUID) -> Model:
    """Take the remaining escrow back. Raises ModelUnknown, ModelNotOnChain, ModelAlreadyClosed, RoundInFlight."""
    model = await get(session, identity)
    if model.model_id is None:
        raise ModelNotOnChain(f"the model is {model.state}: there is nothing to close on chain")
    record = await world.repository.model(ModelId(model.model_id), await world.chain.final_block())
    if record.is_closed:
        raise ModelAlreadyClosed
    if record.round_in_flight:
        raise RoundInFlight(f"round {record.round_in_flight} is in flight; it has to end first")
    await send_close(session, world, model)
    return model


async def send_close(session: Session, world: World, model: Model) -> None:
    """`closeModel`, once."""
    call = world.repository.close_model(ModelId(int(model.model_id or 0)))
    await send(session, world, intent=f"close:{model.model_id}", call=call, purpose=CLOSE, subject=str(model.id))


def take_over(model: Model, record: ModelRecord) -> None:
    """Bring the row in step with the contract at some final block; an older block changes nothing."""
    if record.rounds_paid < model.rounds_paid or (model.is_closed and not record.is_closed):
        return
    model.best_error = record.best_error
    model.rounds_paid = record.rounds_paid
    model.weights_digest = record.weights_digest
    model.is_closed = record.is_closed
    follow_chain(model, record.state)
