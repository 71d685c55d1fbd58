"""The chain client and the contract's binding against a real node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from eth_account.signers.local import LocalAccount

from devstack.anvil import Anvil
from devstack.contracts import Deployment, deploy_repository
from devstack.processes import free_port
from hessian.chain.binding import Call
from hessian.chain.blocks import BlockUnknown, NodeAnswerInvalid, Receipt, TransactionHash
from hessian.chain.client import Chain, ContractMissing, WrongChain, connect, open_chain, require_contracts
from hessian.chain.contracts import ContractsUnrelated, bind_contracts
from hessian.chain.encoding import ContractRefused
from hessian.chain.events import CohortSealed, MemberJoined, ModelCreated
from hessian.chain.records import ModelState
from hessian.chain.repository import CohortUnknown, ModelRepository, ModelUnknown, RoundUnknown
from hessian.chain.rpc import NodeRefused, NodeUnreachable
from hessian.chain.sender import Broadcast, InsufficientFunds, Sender
from hessian.errors import ChainDiverged, ChainUnavailable
from hessian.identifiers import Address, BlockNumber, ChainId, CohortId, Digest, ModelId, RoundId, Wei
from hessian.settings import ChainSettings
from hessian.testing import valid_terms

MANIFEST, WEIGHTS = Digest(b"m" * 32), Digest(b"w" * 32)


@pytest.fixture
async def chain(fresh_anvil: Anvil) -> AsyncIterator[Chain]:
    """A chain of our own that mines each transaction at once."""
    async with connect(fresh_anvil.url, poll_seconds=0.05) as connected:
        yield connected


@pytest.fixture
def repository(chain: Chain, fresh_repository: Deployment) -> ModelRepository:
    return ModelRepository(chain, fresh_repository.address)


async def sent(chain: Chain, account: LocalAccount, call: Call) -> Receipt:
    """One transaction, mined."""
    sender, address = Sender(chain), Address(account.address)
    quote = await sender.quote(address, call)
    signed = sender.sign(account, call, quote, nonce=await sender.next_nonce(address))
    assert await sender.broadcast(signed) is Broadcast.ACCEPTED
    async with asyncio.timeout(10):
        while (receipt := await chain.receipt(signed.transaction_hash)) is None:  # noqa: ASYNC110  # the chain is no asyncio.Event
            await asyncio.sleep(0.02)
    return receipt


async def test_model__created_and_joined__reads_back_as_it_was_written(
    fresh_anvil: Anvil, chain: Chain, repository: ModelRepository
) -> None:
    lender, owner = fresh_anvil.new_account(), fresh_anvil.new_account()
    terms = valid_terms((await chain.head_block()).timestamp)
    created = await sent(chain, lender, repository.create_model(terms, MANIFEST, WEIGHTS))
    event = repository.events_of(created)[0]
    assert isinstance(event, ModelCreated)
    assert (event.lender, event.terms, event.manifest_digest) == (Address(lender.address), terms, MANIFEST)
    key = os.urandom(32)
    joined = await sent(chain, owner, repository.join(event.model_id, event.forming_cohort_id, key, 500, bond=terms.member_bond))

    before, after = created.block, joined.block
    model = await repository.model(event.model_id, before)
    assert (model.state, model.terms, model.weights_digest) == (ModelState.OPEN, terms, WEIGHTS)
    assert model.escrow == terms.escrow
    assert (await repository.cohort(event.forming_cohort_id, before)).members == ()
    cohort = await repository.cohort(event.forming_cohort_id, after)
    assert cohort.is_sealed
    assert cohort.index_of(Address(owner.address)) == 0
    assert cohort.index_of(Address(lender.address)) is None
    assert (cohort.members[0].masking_key, cohort.members[0].rows) == (key, 500)
    assert await repository.model_count(before.number) == 1
    assert (await repository.totals(after)).bonds == terms.member_bond
    assert await repository.credit_of(Address(owner.address), after) == 0
    assert await repository.minimum_window(after) == 2
    assert [type(e) for e in await repository.events(before.number, after.number)] == [ModelCreated, MemberJoined, CohortSealed]


async def test_reads__no_such_number__are_not_found(chain: Chain, repository: ModelRepository) -> None:
    head = await chain.head_block()
    with pytest.raises(ModelUnknown):
        await repository.model(ModelId(99), head)
    with pytest.raises(CohortUnknown):
        await repository.cohort(CohortId(99), head)
    with pytest.raises(RoundUnknown):
        await repository.round(RoundId(99), head)
    with pytest.raises(ContractRefused, match="round unknown"):
        await repository.context_of(RoundId(99), head)


async def test_quote__contract_would_refuse__says_why(fresh_anvil: Anvil, chain: Chain, repository: ModelRepository) -> None:
    account = fresh_anvil.new_account()
    with pytest.raises(ContractRefused, match=f"nothing to withdraw \\(account {account.address}\\)"):
        await Sender(chain).quote(Address(account.address), repository.withdraw())


async def test_quote__sender_is_poor__insufficient_funds(fresh_anvil: Anvil, chain: Chain, repository: ModelRepository) -> None:
    poor = Address(fresh_anvil.new_account(Wei(10)).address)
    terms = valid_terms((await chain.head_block()).timestamp)
    with pytest.raises(InsufficientFunds):
        await Sender(chain).quote(poor, repository.create_model(terms, MANIFEST, WEIGHTS))
    with pytest.raises(InsufficientFunds, match="has 10 wei"):  # a node estimates a plain transfer without looking at the balance
        await Sender(chain).quote(poor, Call(Address("0x" + "11" * 20), b"", Wei(1)))


async def test_broadcast__same_bytes_again__known_while_pending_then_nonce_used(fresh_anvil: Anvil, chain: Chain) -> None:
    fresh_anvil.call("evm_setAutomine", False)
    account, sender = fresh_anvil.new_account(), Sender(chain)
    call = Call(Address("0x" + "11" * 20), b"", Wei(1))
    signed = sender.sign(account, call, await sender.quote(Address(account.address), call), nonce=0)
    assert [await sender.broadcast(signed), await sender.broadcast(signed)] == [Broadcast.ACCEPTED, Broadcast.ALREADY_KNOWN]
    assert await chain.receipt(signed.transaction_hash) is None
    fresh_anvil.mine()
    assert await sender.broadcast(signed) is Broadcast.NONCE_USED
    assert await chain.receipt(signed.transaction_hash) is not None


async def test_revert_reason__node_has_forgotten_the_block__is_told_without_it(
    fresh_anvil: Anvil, chain: Chain, repository: ModelRepository
) -> None:
    head = await chain.head_block()
    forgotten = replace(head, number=BlockNumber(head.number + 1_000))
    receipt = Receipt(TransactionHash("0x" + "11" * 32), forgotten, False, 21_000, ())
    reason = await Sender(chain).revert_reason(Address(fresh_anvil.new_account().address), repository.withdraw(), receipt)
    assert reason.name == "Reverted"


async def test_logs__contract_is_silent__there_are_none(chain: Chain, repository: ModelRepository) -> None:
    head = await chain.head_block()
    assert await chain.logs(repository.address, BlockNumber(0), head.number) == []


async def test_final_block__two_below_the_head__is_waited_for(fresh_anvil: Anvil, chain: Chain) -> None:
    fresh_anvil.mine(5)
    final, head = await chain.final_block(), await chain.head_block()
    assert head.number - final.number == 2
    waiting = asyncio.create_task(chain.wait_until_final(BlockNumber(head.number + 1)))
    await asyncio.sleep(0)
    fresh_anvil.mine(3)
    async with asyncio.timeout(5):
        assert (await waiting).number == head.number + 1


async def test_require_canonical__reorganised_away__chain_diverged(fresh_anvil: Anvil, chain: Chain) -> None:
    fresh_anvil.mine(5)
    head = await chain.head_block()
    await chain.require_canonical(head)
    fresh_anvil.call("anvil_reorg", 2, [])
    fresh_anvil.mine()
    with pytest.raises(ChainDiverged):
        await chain.require_canonical(head)


async def test_call__pinned_to_a_block_that_was_reorganised_away__is_unknown_not_another_answer(
    fresh_anvil: Anvil, chain: Chain, repository: ModelRepository
) -> None:
    fresh_anvil.mine(2)
    head = await chain.head_block()
    assert await repository.model_count(head) == 0
    fresh_anvil.call("anvil_reorg", 1, [])
    with pytest.raises(BlockUnknown):
        await repository.model_count(head)
    with pytest.raises(BlockUnknown):
        await repository.model_count(BlockNumber(head.number + 100))
    with pytest.raises(BlockUnknown):
        await chain.block(BlockNumber(head.number + 100))


async def test_open_chain__settings_of_another_chain_or_address__refuse_to_start(
    fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment
) -> None:
    right = ChainSettings.model_validate(
        {
            "rpc_url": fresh_anvil.url,
            "chain_id": fresh_anvil.chain_id,
            "repository_address": fresh_repository.address,
            "deployment_address": fresh_serving.address,
        }
    )
    async with open_chain(right) as chain:
        assert chain.chain_id == fresh_anvil.chain_id
        with pytest.raises(ContractMissing):
            await require_contracts(chain, [Address("0x" + "11" * 20)])
    with pytest.raises(WrongChain):
        async with open_chain(right.model_copy(update={"chain_id": 1})):
            pass
    with pytest.raises(ContractMissing):
        async with open_chain(right.model_copy(update={"deployment_address": "0x" + "11" * 20})):
            pass


async def test_bind_contracts__addresses_that_do_not_belong_together__refuse_to_start(
    chain: Chain, fresh_anvil: Anvil, fresh_repository: Deployment, fresh_serving: Deployment
) -> None:
    places = {"repository_address": fresh_repository.address, "deployment_address": fresh_serving.address}
    right = ChainSettings.model_validate({"rpc_url": fresh_anvil.url, "chain_id": fresh_anvil.chain_id, **places})
    bound = await bind_contracts(chain, right)
    assert (bound.repository.address, bound.deployment.address) == (fresh_repository.address, fresh_serving.address)
    other = deploy_repository(fresh_anvil, 2)
    with pytest.raises(ContractsUnrelated, match=f"serves the models of {fresh_repository.address}"):
        await bind_contracts(chain, right.model_copy(update={"repository_address": other.address}))
    with pytest.raises(ContractsUnrelated, match="is no ModelDeployment"):
        await bind_contracts(chain, right.model_copy(update={"deployment_address": other.address}))


@pytest.fixture
async def broken_node() -> AsyncIterator[Callable[[web.Response], str]]:
    """A server that answers every request with one response."""
    answers: list[web.Response] = []
    asked = 0

    async def handle(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        response = answers[min(asked, len(answers)) - 1]
        return web.Response(status=response.status, body=response.body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()

    def answering(*responses: web.Response) -> str:
        answers.extend(responses)
        return f"http://127.0.0.1:{port}"

    yield answering
    await runner.cleanup()


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (web.Response(status=503, text="busy"), NodeUnreachable),
        (web.Response(status=429, text="slow down"), NodeUnreachable),
        (web.Response(text="<html>"), NodeAnswerInvalid),
        (web.Response(text="[]"), NodeAnswerInvalid),
        (web.Response(text="{}"), NodeAnswerInvalid),
        (web.Response(body=b"\xff\xfe"), NodeAnswerInvalid),
        (web.Response(text='{"jsonrpc": "2.0", "id": 1, "error": "no"}'), NodeAnswerInvalid),
        (web.Response(text='{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "not here"}}'), NodeRefused),
        (web.Response(text='{"jsonrpc": "2.0", "id": 1, "result": "one"}'), NodeAnswerInvalid),
        (web.Response(text='{"jsonrpc": "2.0", "id": 1, "result": null}'), NodeAnswerInvalid),
    ],
    ids=["503", "429", "html", "list", "empty", "no text", "odd error", "refusal", "no number", "null"],
)
async def test_connect__broken_node__is_unavailable(
    broken_node: Callable[..., str], response: web.Response, error: type[ChainUnavailable]
) -> None:
    with pytest.raises(error):
        async with connect(broken_node(response)):
            pass


async def test_connect__one_answer_in_three_fails__nobody_notices(broken_node: Callable[..., str]) -> None:
    good = web.Response(text='{"jsonrpc": "2.0", "id": 1, "result": "0x7"}')
    async with connect(broken_node(web.Response(status=502), good), expected=ChainId(7)) as chain:
        assert chain.chain_id == 7


async def test_connect__nobody_listens__is_unavailable() -> None:
    with pytest.raises(NodeUnreachable):
        async with connect(f"http://127.0.0.1:{free_port()}"):
            pass


async def test_receipt__unknown_transaction__there_is_none(chain: Chain) -> None:
    assert await chain.receipt(TransactionHash("0x" + "ee" * 32)) is None
