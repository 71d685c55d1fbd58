"""A real Ethereum node for one machine: anvil, with blocks every half second that are final two blocks later.

Two ways to run it:

- *fleeting* (the demo, the tests): anvil mines by its own clock and forgets everything when it stops.
- *kept* (`make up`): anvil never mines by itself. A keeper thread mines, and saves the whole chain before the block that makes the last
  transaction final. So `kill -9` at any moment loses only blocks that nobody was allowed to act upon; to the services it is a short reorg.

There is no mnemonic and no unlocked account: wallets are funded with `anvil_setBalance` and `anvil_addBalance`, the faucet of this stack.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import structlog
from eth_account import Account
from eth_account.signers.local import LocalAccount

from devstack.processes import Child, ProcessFailed, free_port, tail, wait_until
from devstack.toolchain import tool
from hessian.identifiers import Address, Wei

log = structlog.get_logger()

FINALITY_BLOCKS = 2  # with one slot in an epoch, anvil calls the block two below the head final
TEST_CHAIN_ID = 31_337
POCKET_MONEY = Wei(100 * 10**18)
_IDLE_SECONDS = 12.0
_CODE_OF_NOBODY = "0x"


class ChainCallFailed(ProcessFailed):
    """The embedded node refused a call, or did not answer."""


@dataclass
class Anvil:
    """One node. `block_time` 0 mines each transaction at once and nothing else (for tests that move time)."""

    log: Path
    port: int = 0
    block_time: float = 0.5
    chain_id: int = TEST_CHAIN_ID
    state: Path | None = None
    host: str = "127.0.0.1"
    child: Child | None = field(default=None, init=False)
    _keeper: Keeper | None = field(default=None, init=False)
    _client: httpx.Client | None = field(default=None, init=False)
    _ids: itertools.count[int] = field(default_factory=itertools.count, init=False)

    @property
    def url(self) -> str:
        """The JSON-RPC address."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start the node, with the kept chain if there is one. Raises ProcessFailed."""
        self.port = self.port or free_port()
        mining = ["--no-mining"] if self.state else ["--block-time", str(self.block_time)] if self.block_time else []
        restoring = self.state is not None and self.state.exists()
        loading = ["--load-state", str(self.state)] if restoring else []
        command = [str(tool("anvil")), "--host", self.host, "--port", str(self.port), "--chain-id", str(self.chain_id)]
        # states of old blocks go to disk: without a word to the home directory, where a killed node leaves gigabytes
        shutil.rmtree(self._states, ignore_errors=True)
        command += ["--accounts", "0", "--slots-in-an-epoch", "1", "--quiet", "--cache-path", str(self._states), *mining, *loading]
        self.child = Child("anvil", command, self.log)
        self.child.start()
        self._client = httpx.Client(timeout=30.0, trust_env=False)
        wait_until(self._answers, self.child, seconds=30.0, every=0.005)
        if restoring:
            self.mine(FINALITY_BLOCKS + 1)  # anvil forgets the state of the blocks below the head it loads: give it new final ones
        if self.state is not None:
            self._keeper = Keeper(self, self.state, self.block_time)
            self._keeper.start()

    def stop(self) -> None:
        """Save the chain if it is kept, then end the node."""
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        if self.child is not None:
            self.child.stop(grace=5.0)
            shutil.rmtree(self._states, ignore_errors=True)
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def _states(self) -> Path:
        return self.log.with_suffix(".states").absolute()

    @contextlib.contextmanager
    def attached(self) -> Iterator[Self]:
        """Talk to a node on this port that somebody else started and will stop."""
        self._client = httpx.Client(timeout=30.0, trust_env=False)
        try:
            yield self
        finally:
            self._client.close()
            self._client = None

    def call(self, method: str, *parameters: object) -> Any:
        """One JSON-RPC call. Raises ChainCallFailed."""
        if self._client is None:
            raise ChainCallFailed("anvil has not been started")
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(parameters)}
        try:
            answer = self._client.post(self.url, json=request).json()
        except (httpx.HTTPError, ValueError) as error:
            raise ChainCallFailed(f"anvil does not answer {method}; the end of {self.log}:\n{tail(self.log)}") from error
        if "error" in answer:
            raise ChainCallFailed(f"anvil refused {method}: {answer['error'].get('message', answer['error'])}")
        return answer["result"]

    def fund(self, account: Address, balance: Wei) -> None:
        """This account now has exactly this balance, whatever it had."""
        self.call("anvil_setBalance", account, hex(balance))

    def give(self, account: Address, amount: Wei) -> None:
        """The faucet: this account now has so much more."""
        self.call("anvil_addBalance", account, hex(amount))

    def new_account(self, balance: Wei = POCKET_MONEY) -> LocalAccount:
        """A wallet with a fresh key and some ether."""
        account: LocalAccount = Account.create()
        self.fund(Address(account.address), balance)
        return account

    def balance(self, account: Address) -> Wei:
        """What the account has at the head."""
        return Wei(int(self.call("eth_getBalance", account, "latest"), 16))

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks (or one with what is pending) now."""
        self.call("anvil_mine", hex(blocks))

    def move_time(self, seconds: int) -> None:
        """Let the chain's clock jump forward, and mine so that the head and the final block are past it."""
        self.call("evm_increaseTime", seconds)
        self.mine(FINALITY_BLOCKS + 1)

    def head(self) -> int:
        """Number of the newest block."""
        return int(self.call("eth_blockNumber"), 16)

    def final(self) -> int:
        """Number of the newest final block."""
        return int(self.call("eth_getBlockByNumber", "finalized", False)["number"], 16)

    def has_code(self, account: Address) -> bool:
        """Whether a contract lives there."""
        return bool(self.call("eth_getCode", account, "latest") != _CODE_OF_NOBODY)

    def send(self, raw: bytes, seconds: float = 30.0) -> dict[str, Any]:
        """Broadcast a signed transaction and wait until it is mined; its receipt. Raises ChainCallFailed when it reverted."""
        return self.mined(self.call("eth_sendRawTransaction", "0x" + raw.hex()), seconds)

    def mined(self, name: str, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until a transaction is mined; its receipt. Raises ChainCallFailed when it reverted."""
        until = time.monotonic() + seconds
        while (receipt := self.call("eth_getTransactionReceipt", name)) is None:
            if time.monotonic() > until:
                raise ChainCallFailed(f"the transaction {name} was not mined within {seconds:g} s")
            time.sleep(0.02)
        if int(receipt["status"], 16) != 1:
            raise ChainCallFailed(f"the transaction {name} reverted")
        return dict(receipt)

    def _answers(self) -> bool:
        with contextlib.suppress(ChainCallFailed):
            return int(self.call("eth_chainId"), 16) == self.chain_id
        return False


class Keeper(threading.Thread):
    """Mines when there is something to mine or to make final, and saves the chain after every block, before the next.

    Without anything to do it still mines a block now and then: deadlines need a clock.
    """

    def __init__(self, anvil: Anvil, state: Path, block_time: float) -> None:
        super().__init__(name="chain-keeper", daemon=True)
        self._anvil, self._state, self._block_time = anvil, state, block_time
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until told to stop, or until the chain can be neither mined on nor saved: then the node ends too, and both are started anew.

        A node that stood still would go on answering, and everything that waits for a final block would wait in silence.
        """
        try:
            self._keep()
        except (ChainCallFailed, OSError) as error:
            log.error("chain_not_kept", reason=str(error))
            if self._anvil.child is not None:
                self._anvil.child.ask_to_stop()

    def _keep(self) -> None:
        last, unfinal = time.monotonic(), FINALITY_BLOCKS + 1
        self.save()
        while not self._stopping.wait(self._block_time):
            if int(self._anvil.call("txpool_status")["pending"], 16):
                unfinal = FINALITY_BLOCKS + 1
            if unfinal == 0 and time.monotonic() - last < _IDLE_SECONDS:
                continue
            self._anvil.mine()
            self.save()
            last, unfinal = time.monotonic(), max(0, unfinal - 1)
        self.save()

    def save(self) -> None:
        """Write the whole chain beside the old copy, then take its name: a crash leaves one or the other."""
        packed = self._anvil.call("anvil_dumpState")
        draft = self._state.with_suffix(".draft")
        draft.write_bytes(gzip.decompress(bytes.fromhex(packed.removeprefix("0x"))))
        draft.replace(self._state)

    def stop(self) -> None:
        """Save once more and end."""
        self._stopping.set()
        self.join(timeout=30.0)
