"""Every row of PROTOCOL §6's outcome table on a real node, with time moved forward: the money ends where the table says, to the wei.

Each test ends with everybody withdrawing: what reaches the wallets is compared with what the table promises, and the contract is left with
exactly the escrow that stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from eth_account.signers.local import LocalAccount

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.chain.binding import Call
from hessian.chain.blocks import Receipt
from hessian.chain.client import Chain, connect
from hessian.chain.encoding import ContractRefused
from hessian.chain.events import Credited, ModelCreated, RepositoryEvent, RoundOpened, Withdrawn
from hessian.chain.records import CreditReason, ModelState, RoundState, SplitRule, Terms
from hessian.chain.repository import ModelRepository
from hessian.chain.sender import Broadcast, Sender
from hessian.cohorts.masks import MemberRecord, members_hash, round_context, unlock_commitment
from hessian.economics import escrow, reward, split
from hessian.identifiers import Address, CohortId, ErrorUnits, ModelId, RoundId, Wei, digest_of
from hessian.testing import valid_terms

ROWS = (1600, 801, 2403)
BOUNTY, BASE_FEE, BOND = Wei(10**18 + 7), Wei(10**16 + 1), Wei(3 * 10**16 + 2)
INITIAL, HALF_WAY, TARGET = ErrorUnits(250_000_000), ErrorUnits(200_000_000), ErrorUnits(150_000_011)
ROUNDS = 4
ESCROW = escrow(BOUNTY, BASE_FEE, ROUNDS)
NOTHING = Wei(0)


@dataclass
class Market:
    """One lender, three owners, one model; every step is a mined transaction."""

    chain: Chain
    anvil: Anvil
    repository: ModelRepository
    lender: LocalAccount
    owners: list[LocalAccount]
    events: list[RepositoryEvent] = field(default_factory=list)
    model_id: ModelId = field(init=False)
    cohort_id: CohortId = field(init=False)
    round_id: RoundId = field(init=False)

    async def send(self, account: LocalAccount, call: Call) -> Receipt:
        """Sign, broadcast and wait; what the contract said is kept."""
        sender, address = Sender(self.chain), Address(account.address)
        signed = sender.sign(account, call, await sender.quote(address, call), nonce=await sender.next_nonce(address))
        assert await sender.broadcast(signed) is Broadcast.ACCEPTED
        async with asyncio.timeout(10):
            while (receipt := await self.chain.receipt(signed.transaction_hash)) is None:  # noqa: ASYNC110  # the chain is no asyncio.Event
                await asyncio.sleep(0.005)
        assert receipt.succeeded
        self.events += self.repository.events_of(receipt)
        return receipt

    async def create(self, rule: SplitRule = SplitRule.BY_ROWS) -> None:
        await self.send(self.lender, self.repository.create_model(await self.terms(rule), digest_of(b"manifest"), digest_of(b"weights")))
        created = self.events[-1]
        assert isinstance(created, ModelCreated)
        self.model_id, self.cohort_id = created.model_id, created.forming_cohort_id

    async def terms(self, rule: SplitRule) -> Terms:
        return valid_terms(
            (await self.chain.head_block()).timestamp,
            bounty=BOUNTY,
            base_fee=BASE_FEE,
            member_bond=BOND,
            initial_error=INITIAL,
            target_error=TARGET,
            max_rounds=ROUNDS,
            cohort_size=len(ROWS),
            split_rule=rule,
        )

    async def join(self) -> None:
        for index, (owner, rows) in enumerate(zip(self.owners, ROWS, strict=True)):
            await self.send(owner, self.repository.join(self.model_id, self.cohort_id, self.key(index), rows, bond=BOND))

    async def open(self) -> None:
        await self.send(self.lender, self.repository.open_round(self.cohort_id))
        opened = self.events[-1]
        assert isinstance(opened, RoundOpened)
        self.round_id = opened.round_id

    async def submit(self, *members: int) -> None:
        context = self.context()
        for index in members:
            call = self.repository.submit_gradient(
                self.round_id, digest_of(b"gradient %d" % index), unlock_commitment(context, index, self.seed(index))
            )
            await self.send(self.owners[index], call)

    async def accept(self) -> None:
        await self.send(self.lender, self.repository.accept_submissions(self.round_id))

    async def unlock(self, *members: int) -> None:
        for index in members:
            await self.send(self.owners[index], self.repository.unlock(self.round_id, self.seed(index)))

    async def report(self, error: ErrorUnits) -> None:
        await self.send(self.lender, self.repository.report_round(self.round_id, error, digest_of(b"weights"), digest_of(b"report")))

    async def expire(self) -> None:
        """A stranger ends the round: too early it is refused, past the deadline it is not."""
        stranger = self.anvil.new_account()
        with pytest.raises(ContractRefused, match="deadline not passed"):
            await self.send(stranger, self.repository.expire_round(self.round_id))
        self.anvil.move_time(61)
        await self.send(stranger, self.repository.expire_round(self.round_id))

    def context(self) -> bytes:
        """As the owners' nodes compute it, without asking the contract."""
        members = [MemberRecord(Address(o.address), self.key(i), r) for i, (o, r) in enumerate(zip(self.owners, ROWS, strict=True))]
        return round_context(
            self.chain.chain_id,
            self.repository.address,
            self.model_id,
            self.cohort_id,
            self.round_id,
            digest_of(b"weights"),
            members_hash(members),
        )

    def key(self, index: int) -> bytes:
        return digest_of(b"masking key %d" % index)

    def seed(self, index: int) -> bytes:
        return digest_of(b"seed %d" % index)

    async def states(self) -> tuple[ModelState, RoundState, bool]:
        """Of the model and its last round, and whether the cohort is closed."""
        head = await self.chain.head_block()
        model, current = await self.repository.model(self.model_id, head), await self.repository.round(self.round_id, head)
        return model.state, current.state, (await self.repository.cohort(self.cohort_id, head)).is_closed

    def credited(self, reason: CreditReason) -> Wei:
        return Wei(sum(event.amount for event in self.events if isinstance(event, Credited) and event.reason is reason))

    async def assert_money(self, lender: int, owners: list[int], *, escrow_left: int, bonds_left: int = 0) -> None:
        """Totals and balance agree; then everybody withdraws, and every wallet gets exactly what it should."""
        totals = await self.repository.totals(await self.chain.head_block())
        assert totals.escrow == escrow_left
        assert totals.bonds == bonds_left
        assert totals.credits == lender + sum(owners)
        assert self.anvil.balance(self.repository.address) == totals.escrow + totals.bonds + totals.credits
        for account, owed in [(self.lender, lender), *zip(self.owners, owners, strict=True)]:
            await self.assert_withdraws(account, Wei(owed))
        assert self.anvil.balance(self.repository.address) == escrow_left + bonds_left

    async def assert_withdraws(self, account: LocalAccount, owed: Wei) -> None:
        if not owed:
            with pytest.raises(ContractRefused, match="nothing to withdraw"):
                await self.send(account, self.repository.withdraw())
            return
        before = self.anvil.balance(Address(account.address))
        receipt = await self.send(account, self.repository.withdraw())
        price = int(self.anvil.call("eth_getTransactionReceipt", receipt.transaction_hash)["effectiveGasPrice"], 16)
        assert self.anvil.balance(Address(account.address)) == before + owed - receipt.gas_used * price
        paid = self.events[-1]
        assert isinstance(paid, Withdrawn)
        assert paid.amount == owed


@pytest.fixture
async def market(fresh_anvil: Anvil, fresh_repository: Deployment) -> AsyncIterator[Market]:
    async with connect(fresh_anvil.url, poll_seconds=0.05) as chain:
        repository = ModelRepository(chain, fresh_repository.address)
        yield Market(chain, fresh_anvil, repository, fresh_anvil.new_account(), [fresh_anvil.new_account() for _ in ROWS])


@pytest.fixture
async def submitting(market: Market) -> Market:
    await market.create()
    await market.join()
    await market.open()
    return market


@pytest.fixture
async def unlocking(submitting: Market) -> Market:
    await submitting.submit(0, 1, 2)
    await submitting.accept()
    return submitting


@pytest.fixture
async def evaluating(unlocking: Market) -> Market:
    await unlocking.unlock(0, 1, 2)
    return unlocking


async def test_submitting__a_member_leaves__all_bonds_return_and_the_escrow_is_untouched(submitting: Market) -> None:
    await submitting.submit(0)
    await submitting.send(submitting.owners[2], submitting.repository.leave(submitting.cohort_id))
    assert await submitting.states() == (ModelState.OPEN, RoundState.FAILED, True)
    await submitting.assert_money(0, [BOND, BOND, BOND], escrow_left=ESCROW)


async def test_submitting__a_member_is_silent__its_bond_is_split_among_those_who_submitted(submitting: Market) -> None:
    await submitting.submit(0, 2)
    await submitting.expire()
    assert await submitting.states() == (ModelState.OPEN, RoundState.FAILED, True)
    first, second = split(BOND, [1, 1])
    assert submitting.credited(CreditReason.FORFEIT) == BOND
    await submitting.assert_money(0, [BOND + first, 0, BOND + second], escrow_left=ESCROW)


async def test_submitting__a_silent_member_leaves_after_the_window__is_refused(submitting: Market) -> None:
    await submitting.submit(0, 1)
    submitting.anvil.move_time(61)
    with pytest.raises(ContractRefused, match="deadline passed"):
        await submitting.send(submitting.owners[2], submitting.repository.leave(submitting.cohort_id))


async def test_submitting__everybody_is_silent__all_bonds_return(submitting: Market) -> None:
    await submitting.expire()
    assert await submitting.states() == (ModelState.OPEN, RoundState.FAILED, True)
    await submitting.assert_money(0, [BOND, BOND, BOND], escrow_left=ESCROW)


async def test_accepting__the_lender_does_not_accept__all_bonds_return_and_the_escrow_is_untouched(submitting: Market) -> None:
    await submitting.submit(0, 1, 2)
    await submitting.expire()
    assert await submitting.states() == (ModelState.OPEN, RoundState.FAILED, True)
    await submitting.assert_money(0, [BOND, BOND, BOND], escrow_left=ESCROW)


async def test_unlocking__two_members_are_silent__their_bonds_go_to_the_one_who_unlocked(unlocking: Market) -> None:
    await unlocking.unlock(1)
    await unlocking.expire()
    assert await unlocking.states() == (ModelState.OPEN, RoundState.UNLOCK_FAILED, True)
    await unlocking.assert_money(0, [0, 3 * BOND, 0], escrow_left=ESCROW)


async def test_unlocking__one_member_is_silent__its_bond_is_split_among_those_who_unlocked(unlocking: Market) -> None:
    await unlocking.unlock(2, 1)
    await unlocking.expire()
    first, second = split(BOND, [1, 1])
    await unlocking.assert_money(0, [0, BOND + first, BOND + second], escrow_left=ESCROW)


async def test_unlocking__nobody_unlocks__the_bonds_go_to_the_lender(unlocking: Market) -> None:
    await unlocking.expire()
    assert await unlocking.states() == (ModelState.OPEN, RoundState.UNLOCK_FAILED, True)
    await unlocking.assert_money(3 * BOND, [0, 0, 0], escrow_left=ESCROW)


async def test_evaluating__the_lender_does_not_report__the_cohort_gets_the_remaining_bounty_and_one_base_fee(evaluating: Market) -> None:
    await evaluating.expire()
    assert await evaluating.states() == (ModelState.DEFAULTED, RoundState.DEFAULTED, True)
    shares = split(Wei(BOUNTY + BASE_FEE), ROWS)
    await evaluating.assert_money(0, [share + BOND for share in shares], escrow_left=(ROUNDS - 1) * BASE_FEE)


async def test_evaluating__the_lender_defaults_after_a_settled_round__only_the_unearned_bounty_is_left_to_pay(evaluating: Market) -> None:
    await evaluating.report(HALF_WAY)
    earned = reward(BOUNTY, INITIAL, TARGET, INITIAL, HALF_WAY)
    await evaluating.open()
    await evaluating.submit(0, 1, 2)
    await evaluating.accept()
    await evaluating.unlock(0, 1, 2)
    await evaluating.expire()
    first, second = split(Wei(earned + BASE_FEE), ROWS), split(Wei(BOUNTY - earned + BASE_FEE), ROWS)
    await evaluating.assert_money(0, [a + b + BOND for a, b in zip(first, second, strict=True)], escrow_left=(ROUNDS - 2) * BASE_FEE)


async def test_evaluating__the_round_settles_by_rows__reward_and_base_fee_are_split_and_bonds_stay(evaluating: Market) -> None:
    await evaluating.report(HALF_WAY)
    assert await evaluating.states() == (ModelState.OPEN, RoundState.SETTLED, False)
    earned = reward(BOUNTY, INITIAL, TARGET, INITIAL, HALF_WAY)
    pool = Wei(earned + BASE_FEE)
    await evaluating.assert_money(0, list(split(pool, ROWS)), escrow_left=ESCROW - pool, bonds_left=3 * BOND)


async def test_evaluating__the_round_settles_equally__everybody_gets_the_same_to_one_wei(market: Market) -> None:
    await market.create(SplitRule.EQUAL)
    await market.join()
    await market.open()
    await market.submit(0, 1, 2)
    await market.accept()
    await market.unlock(0, 1, 2)
    await market.report(HALF_WAY)
    pool = Wei(reward(BOUNTY, INITIAL, TARGET, INITIAL, HALF_WAY) + BASE_FEE)
    shares = split(pool, [1, 1, 1])
    assert max(shares) - min(shares) <= 1
    await market.assert_money(0, list(shares), escrow_left=ESCROW - pool, bonds_left=3 * BOND)


async def test_evaluating__nothing_improved__the_base_fee_is_all(evaluating: Market) -> None:
    await evaluating.report(INITIAL)
    assert evaluating.credited(CreditReason.REWARD) == BASE_FEE
    await evaluating.assert_money(0, list(split(BASE_FEE, ROWS)), escrow_left=ESCROW - BASE_FEE, bonds_left=3 * BOND)


async def test_model_ends__trained__leave_returns_the_bonds_and_close_the_unused_escrow(evaluating: Market) -> None:
    await evaluating.report(TARGET)
    await evaluating.send(evaluating.lender, evaluating.repository.close_model(evaluating.model_id))
    assert await evaluating.states() == (ModelState.TRAINED, RoundState.SETTLED, False)
    await evaluating.send(evaluating.owners[0], evaluating.repository.leave(evaluating.cohort_id))
    assert await evaluating.states() == (ModelState.TRAINED, RoundState.SETTLED, True)
    shares = split(Wei(BOUNTY + BASE_FEE), ROWS)
    await evaluating.assert_money((ROUNDS - 1) * BASE_FEE, [share + BOND for share in shares], escrow_left=NOTHING)


async def test_model_ends__cancelled_between_rounds__leave_still_works_long_after(market: Market) -> None:
    await market.create()
    await market.join()
    await market.send(market.lender, market.repository.close_model(market.model_id))
    market.anvil.move_time(3 * 365 * 86_400)
    await market.send(market.owners[1], market.repository.leave(market.cohort_id))
    model = await market.repository.model(market.model_id, await market.chain.head_block())
    assert model.state is ModelState.CANCELLED
    await market.assert_money(ESCROW, [BOND, BOND, BOND], escrow_left=NOTHING)


async def test_model_ends__past_its_training_deadline__is_expired_and_refunds_everything(market: Market) -> None:
    await market.create()
    await market.join()
    market.anvil.move_time(86_401)
    with pytest.raises(ContractRefused, match="model not open"):
        await market.open()
    await market.send(market.lender, market.repository.close_model(market.model_id))
    await market.send(market.owners[0], market.repository.leave(market.cohort_id))
    model = await market.repository.model(market.model_id, await market.chain.head_block())
    assert model.state is ModelState.EXPIRED
    await market.assert_money(ESCROW, [BOND, BOND, BOND], escrow_left=NOTHING)
