"""The outbox against a real Postgres and a real node: what leaves is a row first, and has one effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.chain.binding import Call
from hessian.chain.blocks import Receipt
from hessian.chain.client import Chain, connect
from hessian.chain.events import ModelCreated
from hessian.chain.records import Terms
from hessian.chain.repository import ModelRepository
from hessian.identifiers import Address, CohortId, Digest, ModelId, Wei
from hessian.metrics import REGISTRY
from hessian.outbox.outbox import BusinessKeyReused, Outbox
from hessian.outbox.relay import Relay, SignerUnknown
from hessian.outbox.tables import OutboxRow, TransactionState
from hessian.postgres.engine import Database, naming_metadata, open_database
from hessian.postgres.session import Session
from hessian.testing import valid_terms

PENDING, SENT, FINAL, FAILED = TransactionState.PENDING, TransactionState.SENT, TransactionState.FINAL, TransactionState.FAILED
MANIFEST, WEIGHTS = Digest(b"m" * 32), Digest(b"w" * 32)
SOMEBODY = Address("0x1111111111111111111111111111111111111111")


class Base(DeclarativeBase):
    metadata = naming_metadata()


class Transaction(OutboxRow, Base):
    pass


class Effect(Base):
    """What the handlers of these tests leave behind."""

    __tablename__ = "effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    state: Mapped[str]
    model_id: Mapped[int | None]


@dataclass
class Node:
    """One service, as far as the outbox is concerned."""

    anvil: Anvil
    database: Database
    chain: Chain
    repository: ModelRepository
    accounts: dict[Address, LocalAccount] = field(default_factory=dict)
    outbox: Outbox[Transaction] = field(default_factory=lambda: Outbox(Transaction))

    def account(self, balance: Wei | None = None) -> Address:
        """A wallet that the relay may use."""
        account = self.anvil.new_account() if balance is None else self.anvil.new_account(balance)
        self.accounts[Address(account.address)] = account
        return Address(account.address)

    async def terms(self, **changes: Any) -> Terms:
        return valid_terms((await self.chain.head_block()).timestamp, **changes)

    async def enqueue(self, sender: Address, call: Call, *, key: str = "key", purpose: str = "test") -> int:
        async with self.database.begin() as session:
            row = await self.outbox.enqueue(
                session, business_key=key, sender=sender, call=call, purpose=purpose, subject=f"subject of {key}"
            )
            return row.id

    async def row(self, row_id: int) -> Transaction:
        async with self.database.begin() as session:
            return (await session.execute(select(Transaction).where(Transaction.id == row_id))).scalar_one()

    async def until(self, row_id: int, state: TransactionState, *, mined: bool = False) -> Transaction:
        """Wait for a row to get there."""

        async def there() -> bool:
            row = await self.row(row_id)
            assert not row.state.is_settled or row.state is state, f"{row.state}: {row.failure}"
            return row.state is state and not (mined and row.block_number is None)

        await eventually(there)
        return await self.row(row_id)

    async def knows(self, row: Transaction) -> bool:
        """Whether the Ethereum node has the bytes."""
        return self.anvil.call("eth_getTransactionByHash", row.transaction_hash) is not None

    async def signer_of(self, sender: Address) -> LocalAccount:
        if sender not in self.accounts:
            raise SignerUnknown(f"there is no key for {sender} here")
        return self.accounts[sender]

    async def note(self, session: Session, row: Transaction, receipt: Receipt | None) -> None:
        events = self.repository.events_of(receipt) if receipt else []
        model_id = next((event.model_id for event in events if isinstance(event, ModelCreated)), None)
        session.add(Effect(subject=row.subject, state=row.state.value, model_id=model_id))

    async def effects(self) -> list[Effect]:
        async with self.database.begin() as session:
            return list((await session.execute(select(Effect).order_by(Effect.id))).scalars())

    def relay(self, **options: Any) -> Relay[Transaction]:
        defaults = {"poll_seconds": 0.05, "idle_seconds": 0.5, "resend_seconds": 0.3}
        return Relay(self.database, self.chain, self.outbox, self.signer_of, {"test": self.note}, **defaults | options)

    @asynccontextmanager
    async def running(self, relay: Relay[Transaction] | None = None) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task((relay or self.relay()).run(stop))
            try:
                yield
            finally:
                stop.set()


@pytest.fixture
async def node(database_url: str, anvil: Anvil, repository_contract: Deployment) -> AsyncIterator[Node]:
    """On the chain that mines by the clock."""
    async with _open(database_url, anvil, repository_contract) as opened:
        yield opened


@pytest.fixture
async def still_node(database_url: str, fresh_anvil: Anvil, fresh_repository: Deployment) -> AsyncIterator[Node]:
    """On a chain that mines only when it is told to."""
    fresh_anvil.call("evm_setAutomine", False)
    async with _open(database_url, fresh_anvil, fresh_repository) as opened:
        yield opened


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds; the chain and the database are no asyncio.Event."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110  # the condition is in the database: nothing here could set an event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _open(url: str, anvil: Anvil, contract: Deployment) -> AsyncIterator[Node]:
    async with open_database(url) as database, connect(anvil.url, poll_seconds=0.05) as chain:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield Node(anvil, database, chain, ModelRepository(chain, contract.address))


async def test_enqueue__same_key_twice__is_one_row_with_the_first_call(node: Node) -> None:
    sender = node.account()
    first = await node.enqueue(sender, Call(SOMEBODY, b"first", Wei(1)))
    second = await node.enqueue(sender, Call(SOMEBODY, b"second", Wei(2)))
    assert first == second
    assert (await node.row(first)).call == Call(SOMEBODY, b"first", Wei(1))


@pytest.mark.parametrize("change", ["sender", "purpose"])
async def test_enqueue__key_of_another_intent__is_refused(node: Node, change: str) -> None:
    sender = node.account()
    await node.enqueue(sender, Call(SOMEBODY, b""))
    other = (node.account(), "test") if change == "sender" else (sender, "other")
    with pytest.raises(BusinessKeyReused):
        await node.enqueue(other[0], Call(SOMEBODY, b""), purpose=other[1])


async def test_enqueue__fifty_at_once__one_row(node: Node) -> None:
    sender = node.account()
    rows = await asyncio.gather(*(node.enqueue(sender, Call(SOMEBODY, b"")) for _ in range(50)))
    assert len(set(rows)) == 1


async def test_enqueue__callers_transaction_is_rolled_back__nothing_is_left(node: Node) -> None:
    sender = node.account()
    async with node.database.begin() as session:
        await node.outbox.enqueue(session, business_key="k", sender=sender, call=Call(SOMEBODY, b""), purpose="test", subject="")
        await session.rollback()
    assert not node.outbox.nudge.is_set()
    async with node.database.begin() as session:
        assert await node.outbox.find(session, "k") is None


async def test_run__a_model_is_created__final_with_its_id_for_the_handler(node: Node) -> None:
    sender = node.account()
    async with node.running():
        call = node.repository.create_model(await node.terms(), MANIFEST, WEIGHTS)
        row = await node.until(await node.enqueue(sender, call), FINAL)
    (effect,) = await node.effects()
    assert (effect.subject, effect.state) == ("subject of key", "final")
    assert effect.model_id is not None
    final = await node.chain.final_block()
    assert (await node.repository.model(ModelId(effect.model_id), final)).lender == sender
    assert row.block_number is not None
    assert row.gas_used is not None
    assert row.block_number <= final.number
    assert 21_000 < row.gas_used < 2_000_000


async def test_run__contract_would_refuse__failed_with_the_reason_and_no_nonce_used(node: Node) -> None:
    sender = node.account()
    async with node.running():
        refused = await node.until(await node.enqueue(sender, node.repository.withdraw()), FAILED)
        passed = await node.until(await node.enqueue(sender, Call(SOMEBODY, b"", Wei(1)), key="next"), FINAL)
    assert refused.failure == f"the contract refused: nothing to withdraw (account {sender})"
    assert (refused.nonce, refused.raw, refused.transaction_hash) == (None, None, None)
    assert passed.nonce == 0
    assert [effect.state for effect in await node.effects()] == ["failed", "final"]


async def test_run__no_key_for_the_sender__failed_in_words(node: Node) -> None:
    async with node.running():
        row = await node.until(await node.enqueue(SOMEBODY, Call(SOMEBODY, b"")), FAILED)
    assert row.failure == f"there is no key for {SOMEBODY} here"


async def test_run__one_sender_many_rows__in_order_with_nonces_in_a_row(node: Node) -> None:
    sender = node.account()
    rows = [await node.enqueue(sender, Call(SOMEBODY, b"", Wei(n)), key=str(n)) for n in range(4)]
    async with node.running():
        done = [await node.until(row, FINAL) for row in rows]
    assert [row.nonce for row in done] == [0, 1, 2, 3]


async def test_run__mined_but_reverted__failed_with_the_reason_and_not_sent_again(still_node: Node) -> None:
    """Both owners see the last seat free; one gets it."""
    node = still_node
    lender, owners = node.account(), [node.account(), node.account()]
    terms = await node.terms(cohort_size=1)
    async with node.running():
        creation = await node.enqueue(lender, node.repository.create_model(terms, MANIFEST, WEIGHTS))
        await node.until(creation, SENT)
        node.anvil.mine(4)
        await node.until(creation, FINAL)
        model = await node.repository.model(ModelId(1), await node.chain.head_block())
        seats = [
            await node.enqueue(
                owner, node.repository.join(ModelId(1), model.forming_cohort_id, bytes([n]) * 32, 9, bond=terms.member_bond), key=owner
            )
            for n, owner in enumerate(owners, start=1)
        ]
        for seat in seats:
            await node.until(seat, SENT)
        node.anvil.mine(4)

        async def decided() -> bool:
            return {(await node.row(seat)).state for seat in seats} == {FINAL, FAILED}

        await eventually(decided)
    (loser,) = [row for row in [await node.row(seat) for seat in seats] if row.state is FAILED]
    assert "cohort not forming" in str(loser.failure)
    assert loser.block_number is not None
    assert (loser.nonce, int(node.anvil.call("eth_getTransactionCount", loser.sender, "latest"), 16)) == (0, 1)


async def test_run__four_owners_join_in_one_block__the_last_has_gas_for_the_seal(still_node: Node) -> None:
    """Each was estimated as the second of five; one of them pays for sealing the cohort."""
    node = still_node
    lender, owners = node.account(), [node.account() for _ in range(5)]
    terms = await node.terms(cohort_size=5)

    async def join(n: int) -> int:
        call = node.repository.join(ModelId(1), CohortId(1), bytes([n + 1]) * 32, 9, bond=terms.member_bond)
        row_id = await node.enqueue(owners[n], call, key=f"seat {n}")
        await node.until(row_id, SENT)
        return row_id

    async with node.running():
        creation = await node.enqueue(lender, node.repository.create_model(terms, MANIFEST, WEIGHTS))
        await node.until(creation, SENT)
        node.anvil.mine(1)
        first = await join(0)
        node.anvil.mine(1)
        await node.until(first, SENT, mined=True)
        seats = [await join(n) for n in range(1, 5)]
        node.anvil.mine(4)
        used = [(await node.until(seat, FINAL)).gas_used or 0 for seat in seats]
    assert (await node.repository.cohort(CohortId(1), await node.chain.final_block())).is_sealed
    assert max(used) > 1.25 * min(used)


async def test_run__five_senders__do_not_wait_for_each_other(still_node: Node) -> None:
    node = still_node
    senders = [node.account() for _ in range(5)]
    first = [await node.enqueue(sender, Call(SOMEBODY, b"", Wei(1)), key=f"first {sender}") for sender in senders]
    second = [await node.enqueue(sender, Call(SOMEBODY, b"", Wei(2)), key=f"second {sender}") for sender in senders]
    async with node.running():
        for row in first:
            await node.until(row, SENT)  # nothing is mined: all five are on their way at once
        assert {(await node.row(row)).state for row in second} == {PENDING}
        node.anvil.mine(1)
        for row in second:
            await node.until(row, SENT)  # the first is mined, not final: the second may leave
        assert {(await node.row(row)).state for row in first} == {SENT}
        node.anvil.mine(4)
        for row in first + second:
            await node.until(row, FINAL)


async def test_run__node_drops_the_transaction__the_same_bytes_are_sent_again(still_node: Node) -> None:
    node = still_node
    row_id = await node.enqueue(node.account(), Call(SOMEBODY, b"", Wei(1)))
    async with node.running():
        sent = await node.until(row_id, SENT)
        node.anvil.call("anvil_dropTransaction", sent.transaction_hash)
        await eventually(lambda: node.knows(sent))
        node.anvil.mine(4)
        done = await node.until(row_id, FINAL)
    assert done.transaction_hash == sent.transaction_hash


async def test_run__reorganisation_takes_the_block_back__sent_again_and_counted_once(still_node: Node) -> None:
    node, before = still_node, counted_reorganisations()
    sender = node.account()
    row_id = await node.enqueue(sender, node.repository.create_model(await node.terms(), MANIFEST, WEIGHTS))
    async with node.running():
        await node.until(row_id, SENT)
        node.anvil.mine(1)
        mined = await node.until(row_id, SENT, mined=True)
        node.anvil.call("anvil_reorg", 1, [])
        assert node.anvil.call("eth_getTransactionReceipt", mined.transaction_hash) is None
        await eventually(lambda: node.knows(mined))
        assert (await node.row(row_id)).state is SENT
        node.anvil.mine(4)
        await node.until(row_id, FINAL)
    assert await node.repository.model_count(await node.chain.final_block()) == 1
    assert [effect.state for effect in await node.effects()] == ["final"]
    assert counted_reorganisations() == [figure + 1 for figure in before]


def counted_reorganisations() -> list[float]:
    """Transactions that left their block, and how often a depth was noted."""
    return [REGISTRY.get_sample_value(f"hessian_chain_reorg_{figure}") or 0.0 for figure in ("total", "depth_count")]


async def test_run__key_is_used_elsewhere__failed_instead_of_a_second_signature(still_node: Node) -> None:
    node = still_node
    sender = node.account()
    row_id = await node.enqueue(sender, Call(SOMEBODY, b"", Wei(1)))
    async with node.running():
        sent = await node.until(row_id, SENT)
        other = {"type": 2, "chainId": node.anvil.chain_id, "nonce": 0, "to": SOMEBODY, "value": 5, "gas": 21_000}
        fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**10}
        stranger: Any = other | fees
        signed = node.accounts[sender].sign_transaction(stranger)
        node.anvil.call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        node.anvil.mine(4)
        row = await node.until(row_id, FAILED)
    assert "its key is in use elsewhere" in str(row.failure)
    assert row.transaction_hash == sent.transaction_hash


async def test_run__sender_is_poor__waits_until_somebody_pays_and_lets_others_of_it_pass(node: Node) -> None:
    sender = node.account(Wei(10**16))
    costly = await node.enqueue(sender, Call(SOMEBODY, b"", Wei(10**18)), key="costly")
    cheap = await node.enqueue(sender, Call(SOMEBODY, b"", Wei(1)), key="cheap")
    async with node.running():
        await node.until(cheap, FINAL)
        assert (await node.row(costly)).state is PENDING
        node.anvil.fund(sender, Wei(10**19))
        await node.until(costly, FINAL)


async def test_run__handler_fails__row_is_not_settled_and_the_relay_stops_loudly(node: Node) -> None:
    async def fail(_session: Session, _row: Any, _receipt: Receipt | None) -> None:
        raise ArithmeticError

    row_id = await node.enqueue(node.account(), Call(SOMEBODY, b"", Wei(1)))
    broken: Relay[Transaction] = Relay(node.database, node.chain, node.outbox, node.signer_of, {"test": fail}, poll_seconds=0.05)
    with pytest.raises(ExceptionGroup) as caught:
        async with node.running(broken):
            await asyncio.sleep(30)
    assert caught.group_contains(ArithmeticError)
    assert (await node.row(row_id)).state is SENT
    async with node.running():
        await node.until(row_id, FINAL)


async def test_run__three_relays_on_one_table__every_row_has_one_effect(node: Node) -> None:
    senders = [node.account() for _ in range(3)]
    terms = await node.terms()
    before = await node.repository.model_count(await node.chain.head_block())
    call = node.repository.create_model(terms, MANIFEST, WEIGHTS)
    rows = [await node.enqueue(sender, call, key=f"{n} {sender}") for n in range(3) for sender in senders]
    async with node.running(), node.running(), node.running():
        done = [await node.until(row, FINAL) for row in rows]
    assert await node.repository.model_count(await node.chain.final_block()) == before + len(rows)
    assert len(await node.effects()) == len(rows)
    assert sorted((row.sender, row.nonce) for row in done) == sorted((sender, n) for n in range(3) for sender in senders)


async def test_run__another_connection_holds_the_senders_lock__nothing_is_signed_meanwhile(node: Node) -> None:
    sender = node.account()
    async with node.running(), node.database.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"outbox {sender}", 0))))
        row_id = await node.enqueue(sender, Call(SOMEBODY, b"", Wei(1)))
        waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")

        async def somebody_waits() -> bool:
            return bool((await session.execute(waiting)).scalar_one())

        await eventually(somebody_waits)
        assert (await node.row(row_id)).state is PENDING
        await session.commit()
        await node.until(row_id, FINAL)
