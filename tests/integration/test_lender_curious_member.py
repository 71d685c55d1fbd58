"""A member that asks the encrypted weights questions: a sum that decodes or not is one bit a round, until the lender stops answering."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bare_member import asking_for_a_bit
from lender_node import LenderNode, lender_settings, running_lender
from lender_scene import Scene, staged

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.records import ModelRecord, RoundState
from hessian.identifiers import Address, digest_from_hex
from hessian.settings import DatabaseSettings
from lender_api.rounds import service

FIRST, ROUNDS = 7, 4
"""The attacker has the bits below already; with the limit it is still answered 1, 0, 1: two sums spoiled."""


@pytest.fixture
async def lender(
    tmp_path: Path,
    database_settings: DatabaseSettings,
    anvil: Anvil,
    repository_contract: Deployment,
    serving_contract: Deployment,
    block_store: str,
) -> AsyncIterator[LenderNode]:
    settings = lender_settings(tmp_path, database_settings, anvil, repository_contract, serving_contract, block_store)
    async with running_lender(settings, anvil) as node:
        yield node


async def chain_model(scene: Scene) -> ModelRecord:
    world = scene.lender.world
    return await world.repository.model(scene.model_id, await world.chain.final_block())


async def read_bits(scene: Scene, below: int) -> tuple[list[int], dict[str, object]]:
    """What the last member learns of the first weight, from nothing but the chain and IPFS, and the last answer to `accept`.

    It keeps asking about the weights of version 0: their ciphertexts stay usable, so no later step disturbs it.
    """
    sealed = EncryptedWeights.from_bytes(await scene.lender.world.store.get(digest_from_hex(scene.model["weights_digest"])))
    weight = sealed.check_against(scene.manifest)[0]
    bits: list[int] = []
    for bit in range(FIRST, FIRST + ROUNDS):
        known = below + sum(value << place for place, value in enumerate(bits, start=FIRST))

        async def ask(honest: bytes, known: int = known, bit: int = bit) -> bytes:
            return asking_for_a_bit(scene.manifest, honest, weight, known, bit)

        before = (await chain_model(scene)).weights_digest
        round_id = await scene.open_round()
        await scene.submit(round_id, spoil=ask)
        accepted = await scene.ask(f"/v1/rounds/{round_id}/accept")
        if accepted["outcome"] != "pending":
            break
        await scene.unlock(round_id)
        await scene.ask(f"/v1/rounds/{round_id}/evaluate")
        await scene.until(round_id, RoundState.SETTLED)
        bits.append(int((await chain_model(scene)).weights_digest == before))
    return bits, accepted


def bits_of(weight: int, count: int) -> list[int]:
    return [weight >> bit & 1 for bit in range(FIRST, FIRST + count)]


async def test_rounds__no_limit_on_spoiled_sums__give_a_member_one_bit_of_a_weight_each(
    lender: LenderNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_SPOILED", 1_000)
    scene = await staged(lender)
    weight = (await scene.weights())[0]
    bits, _ = await read_bits(scene, weight % (1 << FIRST))
    assert bits == bits_of(weight, ROUNDS) == [1, 0, 1, 0]


async def test_accept__two_sums_of_the_cohort_were_spoiled__is_refused_unpaid_and_the_cohort_closes(lender: LenderNode) -> None:
    scene = await staged(lender)
    weight, start = (await scene.weights())[0], await chain_model(scene)
    bits, accepted = await read_bits(scene, weight % (1 << FIRST))
    assert bits == bits_of(weight, 3) == [1, 0, 1]
    assert accepted["outcome"] == "refused"
    assert accepted == await scene.ask(f"/v1/rounds/{(await chain_model(scene)).round_in_flight}/accept")  # again: the same

    refused = (await scene.history())[-1]
    assert (refused["state"], refused["reason"], refused["report_digest"]) == ("accepting", accepted["reason"], None)
    paid = await chain_model(scene)
    lender.anvil.move_time(paid.terms.accept_window + 1)
    await scene.ask(f"/v1/rounds/{refused['round_id']}/expire")
    await scene.until(refused["round_id"], RoundState.FAILED)
    block = await lender.world.chain.final_block()
    assert (await lender.world.repository.cohort(scene.cohort_id, block)).is_closed
    assert (await chain_model(scene)).escrow == paid.escrow
    credited = [await lender.world.repository.credit_of(Address(member.account.address), block) for member in scene.members]
    assert sum(credited) == 2 * paid.terms.member_bond + start.escrow - paid.escrow
