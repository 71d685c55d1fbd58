"""A model that requires differential privacy, from the lender's wish to the manifest that owners' nodes read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lender_node import KEY_BITS, LenderNode, lender_settings, loans, running_lender

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.artifacts.manifest import ModelManifest
from hessian.identifiers import digest_from_hex
from hessian.privacy.accounting import check_claim, epsilon_of
from hessian.privacy.requirement import UNIT
from hessian.settings import DatabaseSettings


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


async def test_create_model__with_a_privacy_requirement__publishes_noise_that_is_worth_it(lender: LenderNode) -> None:
    model = await lender.open_model(privacy={"epsilon": "1.5", "clip_norm": "2.5"})
    assert model["privacy"] == {"epsilon": "1.5", "delta": "0.000001"}
    content = await lender.world.store.get(digest_from_hex(model["manifest_digest"]))
    required = ModelManifest.from_bytes(content, minimum_bits=KEY_BITS).privacy
    assert required is not None
    assert (required.epsilon, required.delta, required.clip_norm) == (3 * UNIT // 2, UNIT // 10**6, 5 << 15)
    check_claim(required)
    assert epsilon_of([required.rho * 1001 // 1000], required.delta) > required.epsilon  # no more noise than that takes


async def test_create_model__without_a_clip_norm__takes_what_half_of_the_validation_rows_keep(lender: LenderNode) -> None:
    model = await lender.open_model(privacy={"epsilon": "8"})
    content = await lender.world.store.get(digest_from_hex(model["manifest_digest"]))
    manifest = ModelManifest.from_bytes(content, minimum_bits=KEY_BITS)
    assert manifest.privacy is not None
    assert 1 << 16 < manifest.privacy.clip_norm < 10 << 16


@pytest.mark.parametrize(
    "privacy",
    [
        {"epsilon": "0"},
        {"epsilon": "1", "delta": "0"},
        {"epsilon": "1", "delta": "0.01"},
        {"epsilon": "1", "clip_norm": "1"},
        {"epsilon": "1", "noise": "less"},
        {},
    ],
)
async def test_create_model__a_requirement_that_cannot_be_kept__is_refused(lender: LenderNode, privacy: dict[str, str]) -> None:
    uploaded = (await lender.upload(loans(200, seed=1))).json()
    answer = await lender.post_model(await lender.wish(uploaded["id"], privacy=privacy))
    assert answer.status_code == 422
