"""The serving contract's binding against a real node: deployed, asked, answered, expired, withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from eth_account.signers.local import LocalAccount
from market import Market

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.chain.binding import Call
from hessian.chain.blocks import Receipt
from hessian.chain.client import Chain, connect
from hessian.chain.deployment import DeploymentUnknown, ModelDeployment, RequestUnknown
from hessian.chain.deployment_events import (
    Credited,
    DeploymentRetired,
    ModelDeployed,
    RequestExpired,
    ScoreAnswered,
    ScoreRequested,
    Withdrawn,
)
from hessian.chain.deployment_records import FeeCreditReason, RequestState
from hessian.chain.encoding import ContractRefused
from hessian.chain.sender import Sender
from hessian.identifiers import Address, DeploymentId, Digest, ModelId, RequestId, Wei

SCORING, QUERY, ANSWER = Digest(b"s" * 32), Digest(b"q" * 32), Digest(b"a" * 32)
FEE, WINDOW = Wei(10**15), 60


@pytest.fixture
async def chain(fresh_anvil: Anvil) -> AsyncIterator[Chain]:
    async with connect(fresh_anvil.url, poll_seconds=0.05) as connected:
        yield connected


@pytest.fixture
def serving(chain: Chain, fresh_serving: Deployment) -> ModelDeployment:
    return ModelDeployment(chain, fresh_serving.address)


@pytest.fixture
def trained(fresh_anvil: Anvil, fresh_repository: Deployment) -> tuple[LocalAccount, ModelId]:
    """A model at its target, and its lender."""
    market = Market(fresh_anvil, fresh_repository)
    model_id = market.create_model()
    cohort_id, members = market.seal_cohort(model_id)
    market.run_round(cohort_id, members, new_error=market.terms.target_error)
    return market.lender, ModelId(model_id)


async def sent(chain: Chain, account: LocalAccount, call: Call) -> Receipt:
    """One transaction, mined."""
    sender, address = Sender(chain), Address(account.address)
    signed = sender.sign(account, call, await sender.quote(address, call), nonce=await sender.next_nonce(address))
    await sender.broadcast(signed)
    async with asyncio.timeout(10):
        while (receipt := await chain.receipt(signed.transaction_hash)) is None:  # noqa: ASYNC110  # the chain is no asyncio.Event
            await asyncio.sleep(0.02)
    return receipt


async def test_request__answered_and_expired__reads_back_as_it_was_written(
    fresh_anvil: Anvil, chain: Chain, serving: ModelDeployment, fresh_repository: Deployment, trained: tuple[LocalAccount, ModelId]
) -> None:
    (lender, model_id), borrower = trained, fresh_anvil.new_account()
    deployed = await sent(chain, lender, serving.deploy(model_id, SCORING, FEE, WINDOW))
    event = serving.events_of(deployed)[0]
    assert isinstance(event, ModelDeployed)
    record = await serving.deployment(event.deployment_id, deployed.block)
    assert (record.model_id, record.lender, record.is_retired) == (model_id, Address(lender.address), False)
    assert (record.fee, record.answer_window, record.scoring_digest) == (FEE, WINDOW, SCORING)
    assert record.weights_digest == event.weights_digest

    asked = [await sent(chain, borrower, serving.request_score(event.deployment_id, QUERY, fee=FEE)) for _ in range(2)]
    first, second = (serving.events_of(receipt)[0] for receipt in asked)
    assert isinstance(first, ScoreRequested)
    assert isinstance(second, ScoreRequested)
    waiting = await serving.request(first.request_id, asked[0].block)
    assert (waiting.state, waiting.requester, waiting.query_digest) == (RequestState.WAITING, Address(borrower.address), QUERY)
    assert (waiting.deadline, waiting.answer_digest) == (asked[0].block.timestamp + WINDOW, bytes(32))
    assert (await serving.totals(asked[1].block)).fees == 2 * FEE

    answered = await sent(chain, lender, serving.answer_score(first.request_id, ANSWER))
    assert [type(each) for each in serving.events_of(answered)] == [ScoreAnswered, Credited]
    after = await serving.request(first.request_id, answered.block)
    assert (after.state, after.answer_digest) == (RequestState.ANSWERED, ANSWER)
    assert await serving.credit_of(Address(lender.address), answered.block) == FEE

    fresh_anvil.call("evm_increaseTime", WINDOW + 1)
    fresh_anvil.mine(1)
    expired = await sent(chain, borrower, serving.expire_request(second.request_id))
    assert [type(each) for each in serving.events_of(expired)] == [RequestExpired, Credited]
    refund = serving.events_of(expired)[1]
    assert isinstance(refund, Credited)
    assert (refund.reason, refund.account, refund.amount) == (FeeCreditReason.REFUND, Address(borrower.address), FEE)
    withdrawn = await sent(chain, borrower, serving.withdraw())
    assert [type(each) for each in serving.events_of(withdrawn)] == [Withdrawn]

    retired = await sent(chain, lender, serving.retire(event.deployment_id))
    assert (await serving.deployment(event.deployment_id, retired.block)).is_retired
    kinds = [type(each) for each in await serving.events(deployed.block.number, retired.block.number)]
    assert kinds == [
        ModelDeployed, ScoreRequested, ScoreRequested, ScoreAnswered, Credited, RequestExpired, Credited, Withdrawn, DeploymentRetired
    ]  # fmt: skip
    assert (await serving.deployment_count(retired.block), await serving.request_count(retired.block)) == (1, 2)
    assert await serving.repository(retired.block) == fresh_repository.address
    assert await serving.minimum_window(retired.block) == 2


async def test_reads__no_such_number__are_not_found(chain: Chain, serving: ModelDeployment) -> None:
    head = await chain.head_block()
    with pytest.raises(DeploymentUnknown):
        await serving.deployment(DeploymentId(9), head)
    with pytest.raises(RequestUnknown):
        await serving.request(RequestId(9), head)


async def test_quote__the_contract_would_refuse__says_why(fresh_anvil: Anvil, chain: Chain, serving: ModelDeployment) -> None:
    account = Address(fresh_anvil.new_account().address)
    with pytest.raises(ContractRefused, match="not serving"):
        await Sender(chain).quote(account, serving.request_score(DeploymentId(1), QUERY, fee=FEE))
    with pytest.raises(ContractRefused, match="request not waiting"):
        await Sender(chain).quote(account, serving.expire_request(RequestId(1)))
