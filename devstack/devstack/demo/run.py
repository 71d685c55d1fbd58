"""The demo: one real encrypted training run, told through the REST interfaces of the lender and of its data owners.

After the owners have enrolled nobody steers any more: the chain's events move coordinator, trainer, owner-api and lender-api, round after
round, until the target error. Then the owners withdraw what they earned, and the trained model lends (lending.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.text import Text

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from devstack.demo import lending_club
from devstack.demo.case import Case, Plan, Shards, write_shards
from devstack.demo.display import Display, sentence_of
from devstack.demo.ledger import Ledger
from devstack.demo.lending import Lending
from devstack.demo.own_table import told
from devstack.demo.parties import DataOwner, Lender, Rest
from devstack.demo.quotes import Served
from devstack.demo.report import KEY_BITS, Played, Report, measure, show
from devstack.processes import ProcessFailed
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.events import ModelClosed, RoundDefaulted, RoundFailed, RoundSettled, RoundUnlockFailed, Withdrawn
from hessian.chain.records import ModelState
from hessian.errors import HessianError
from hessian.identifiers import Address, Digest, ModelId, Wei, digest_of
from hessian.ipfs.cid import cid_of

BOUNTY, BASE_FEE, BOND = Wei(10**18), Wei(10**16), Wei(2 * 10**16)
LENDERS_ETHER, OWNERS_ETHER = Wei(5 * 10**18), Wei(10**17)
NAMES = ("Arbor Bank", "Birch Credit", "Cedar Lending", "Dune Finance", "Elm Savings")
_WINDOW = 3600
_LIFETIME = 7 * 24 * 3600
_POLL_SECONDS = 0.2
_PATIENCE = 300.0
_PATIENCE_PER_ROUND = 60.0


class DemoFailed(ProcessFailed):
    """The run did not go as it must."""


class Running(Protocol):
    """The stack that the demo runs on, wherever its processes are: entered, started once, left."""

    directory: Path
    anvil: Anvil

    @property
    def repository(self) -> Deployment | None:
        """Where the contract is, once the stack has started."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def start(self, tell: Callable[[str], None]) -> None:
        """From nothing; returns when every service is ready."""

    def url(self, name: str) -> str:
        """Where a service answers."""

    def token(self, role: str) -> str:
        """A token of the node."""

    def content(self, cid: str) -> bytes:
        """What the IPFS node holds; unverified."""

    def require_alive(self) -> None:
        """Raises ProcessFailed."""

    def discard(self) -> None:
        """Forget what a run that went well leaves behind."""


class Demo:
    """One run in one directory."""

    def __init__(
        self, stack: Running, display: Display, closing: ExitStack, *, case: Case = lending_club.CASE, key_bits: int = KEY_BITS
    ) -> None:
        """`stack` need not run yet; what the demo opens is closed by `closing`. Smaller keys are for tests."""
        self.stack, self.display, self.closing, self.case, self.key_bits = stack, display, closing, case, key_bits
        self._ledger: Ledger | None = None
        self.owners: list[DataOwner] = []
        self._balances_at = 0.0

    def play(self) -> Report:
        """From an empty directory to paid owners. Raises HessianError."""
        begun = time.monotonic()
        with self.display.phase("stack", "starting Postgres, the Ethereum node, the content store and the four services"):
            self.stack.start(self.display.say)
        repository = self.stack.repository
        if repository is None:
            raise DemoFailed("the stack has no contract")
        ledger = self._ledger = Ledger(self.stack.anvil, repository)
        lender = self.closing.enter_context(Lender(self.stack.url("lender-api"), self.stack.token("admin")))
        with self.display.phase("data", self.case.cutting):
            shards = self.case.load()
            (self.stack.directory / "data").mkdir()
            files = write_shards(self.stack.directory / "data", shards)
        with self.display.phase("model", "the lender asks for a model; meanwhile the owners upload their rows, each to its own node"):
            self.stack.anvil.fund(lender.address, LENDERS_ETHER)
            validation_set = self._upload_validation(lender, files["validation"])
            plan = self.case.plan(lender, validation_set, shards)
            for line in told(plan):
                self.display.say(line)
            rows = sum(len(shard[self.case.label]) for shard in shards.owners)
            model = self._create_model(lender, validation_set, plan, rows)
            for place in range(1, self.case.owners + 1):
                self._add_owner(NAMES[place - 1] if place <= len(NAMES) else f"Owner {place}", files[f"owner-{place}"])
            self.display.follow(ledger, {owner.address: owner.name for owner in self.owners} | {lender.address: "the lender"})
            model = self._wait_for_model(lender, model["id"])
        enrolled = time.monotonic()
        with self.display.phase("enrolment", "the owners enrol: each node checks the model, measures its rows once, and joins the cohort"):
            for owner in self.owners:
                owner.enrol(ModelId(model["model_id"]))
            self._until(self._all_sealed, "the cohort was not sealed")
        with self.display.phase("rounds", "training under encryption, round after round, until the target error"):
            patience = max(_PATIENCE, _PATIENCE_PER_ROUND * self.case.max_rounds)
            self._until(lambda: self._trained() is not None, "the target was not reached", patience)
        self.display.seconds["training"] = round(time.monotonic() - enrolled, 3)
        with self.display.phase("payment", "the model is closed; everybody withdraws"):
            self._until(lambda: self._is_closed() and self._all_closed(), "the model was not closed, or bonds were not returned")
            self._withdraw(lender)
        weights = lender.get(f"/v1/models/{model['id']}/weights")
        artifacts = self._artifacts()
        manifest = ModelManifest.from_bytes(artifacts["manifest"][0], minimum_bits=self.key_bits)
        served = self._lend(lender, model["id"], weights, manifest, shards)
        self.display.seconds["total"] = round(time.monotonic() - begun, 3)
        self.display.say("comparing with plaintext training on the same rows")
        accounts = [owner.address for owner in self.owners]
        played = Played(self.case, shards, plan.target, weights, artifacts, accounts, served)
        return measure(ledger, played, self.display.seconds, key_bits=self.key_bits)

    def _lend(self, lender: Lender, model: str, weights: dict[str, Any], manifest: ModelManifest, shards: Shards) -> Served:
        lending = Lending(lender, (self.stack.url("owner-api"), self.stack.token("admin")), self.stack.anvil, self.display, self._until)
        with self.display.phase("deployment", "the lender calibrates its model on the validation rows and deploys it, with a rate policy"):
            served = lending.deploy(model, manifest.specification)
        with self.display.phase("quotes", "borrowers from the test set apply: the lender decides without seeing their features"):
            lending.quote(served, weights, manifest.specification, shards.test, self.closing)
        return served

    @property
    def ledger(self) -> Ledger:
        """The public record. Raises DemoFailed before there is a chain."""
        if self._ledger is None:
            raise DemoFailed("the chain does not run yet")
        return self._ledger

    def _upload_validation(self, lender: Lender, file: Path) -> str:
        query = {"name": f"{self.case.name}, validation", "label": self.case.label, "positive": self.case.positive}
        return str(lender.upload("/v1/validation-sets", file, **query)["id"])

    def _create_model(self, lender: Lender, validation_set: str, plan: Plan, rows: int) -> dict[str, Any]:
        clock = int(self.stack.anvil.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        windows = {f"{step}_window": _WINDOW for step in ("submit", "accept", "unlock", "evaluate")}
        money = {"bounty_wei": str(BOUNTY), "base_fee_wei": str(BASE_FEE), "member_bond_wei": str(BOND)}
        wish = {
            "name": self.case.name, "description": "Will this loan go bad? The demo's model.", "validation_set_id": validation_set,
            "key_bits": self.key_bits, "cohort_size": self.case.owners, **plan.wish,
            "terms": {
                **money, **windows, "target_error": plan.target, "max_rounds": self.case.max_rounds, "row_cap": rows,
                "split_rule": "by_rows", "training_deadline": clock + _LIFETIME,
            },
        }  # fmt: skip
        return dict(lender.post("/v1/models", wish))

    def _add_owner(self, name: str, shard: Path) -> None:
        with Rest(self.stack.url("owner-api"), self.stack.token("admin")) as admin:
            owner = self.closing.enter_context(DataOwner(self.stack.url("owner-api"), admin.post("/v1/owners", {"name": name})))
        self.stack.anvil.fund(owner.address, OWNERS_ETHER)
        owner.upload_shard(shard, self.case.label, self.case.positive)
        self.owners.append(owner)
        self.display.say(f"{name} uploaded {owner.rows} rows to its node")

    def _wait_for_model(self, lender: Lender, identity: str) -> dict[str, Any]:
        model: dict[str, Any] = {}

        def is_open() -> bool:
            model.update(lender.get(f"/v1/models/{identity}"))
            if model["state"] == "failed":
                raise DemoFailed(f"the model failed: {model['reason']}")
            return bool(model["state"] == "open")

        self._until(is_open, "the model did not come on chain")
        return model

    def _all_sealed(self) -> bool:
        return all(state == "sealed" for state in self._enrollment_states())

    def _all_closed(self) -> bool:
        return all(state == "closed" for state in self._enrollment_states())

    def _enrollment_states(self) -> list[str]:
        found = [(owner, owner.enrollment()) for owner in self.owners]
        for owner, enrollment in found:
            if enrollment["state"] == "refused":
                raise DemoFailed(f"{owner.name}'s node refused to enrol: {enrollment['reason']}")
        return [enrollment["state"] for _, enrollment in found]

    def _trained(self) -> RoundSettled | None:
        settled = self.ledger.all(RoundSettled)
        if settled and settled[-1].model_state not in (ModelState.OPEN, ModelState.TRAINED):
            raise DemoFailed(f"the model is {settled[-1].model_state.name.lower()} before it reached its target")
        return next((event for event in settled if event.model_state is ModelState.TRAINED), None)

    def _is_closed(self) -> bool:
        return any(event.place.block_number <= self.ledger.final for event in self.ledger.all(ModelClosed))

    def _withdraw(self, lender: Lender) -> None:
        wanted = {owner.address for owner in self.owners} | {lender.address}
        for party in (lender, *self.owners):
            party.post("/v1/withdrawals")
        self._until(lambda: wanted <= self._withdrawn(), "not everybody could withdraw")

    def _withdrawn(self) -> set[Address]:
        """Whose withdrawal is final."""
        ledger = self.ledger
        return {event.account for event in ledger.all(Withdrawn) if event.place.block_number <= ledger.final}

    def _until(self, reached: Callable[[], bool], otherwise: str, patience: float = _PATIENCE) -> None:
        """Watch and show until something is so. Raises DemoFailed when a process or a round dies, or patience (seconds) ends."""
        until = time.monotonic() + patience
        while True:
            self._look()
            if reached():
                return
            if time.monotonic() > until:
                raise DemoFailed(f"{otherwise} within {patience:g} s")
            time.sleep(_POLL_SECONDS)

    def _look(self) -> None:
        self.stack.require_alive()
        for event in self.ledger.read():
            if isinstance(event, RoundFailed | RoundUnlockFailed | RoundDefaulted):
                raise DemoFailed(f"round {event.round_id} ended as {event.kind}")
            if sentence := sentence_of(event, self.display.names):
                self.display.say(sentence)
        if time.monotonic() - self._balances_at > 1.0:
            self._balances_at = time.monotonic()
            self.display.balances = {address: self.stack.anvil.balance(address) for address in self.display.names}
        self.display.draw()

    def _artifacts(self) -> dict[str, list[bytes]]:
        """Every published artifact by kind, from the store."""
        return {kind: [self._fetch(digest) for digest in digests] for kind, digests in self.ledger.artifacts().items()}

    def _fetch(self, digest: Digest) -> bytes:
        data = self.stack.content(cid_of(digest))
        if digest_of(data) != digest:
            raise DemoFailed(f"the store does not hold {cid_of(digest)}")
        return data


def run(place: Running, console: Console, case: Case = lending_club.CASE) -> int:
    """Play the demo on a stack; the exit code: 0 only when everything in the report holds. Stops what it started, whatever happens."""
    try:
        with place as stack, ExitStack() as closing, Display(console) as display:
            report = Demo(stack, display, closing, case=case).play()
    except HessianError as error:
        console.print(Text(f"\nThe demo failed: {error.sentence}", style="bold red"), soft_wrap=True)
        console.print(f"  logs: {place.directory / 'logs'}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left running", highlight=False)
        return 130
    place.discard()  # of a run that failed, it stays for whoever looks into it
    report.write(place.directory / "report.json")
    show(report, console, place.directory / "report.json")
    return 0 if report.holds else 1
