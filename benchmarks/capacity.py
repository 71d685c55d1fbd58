"""A discrete-event model of many owners: what their rounds ask of coordinators, trainers, chain and IPFS. Pure: figures in, figures out.

It knows of the system what PROTOCOL and the coordinator's code say: one round of a model is in flight at a time; its cohorts take turns.
A job holds a place of a coordinator while it does its work; the lender's hold one again whenever they are asked, after
`coordinator.jobs.delay`, whether their transaction is final. Jobs of one member never overlap. How long anything takes, weighs or costs
comes from measured figures alone.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from event_clock import Clock, Places, Signal, Steps

from coordinator.jobs import JobKind, delay

SENT_BY = {
    JobKind.OPEN_ROUND: "openRound",
    JobKind.CONTRIBUTE: "submitGradient",
    JobKind.ACCEPT_SUBMISSIONS: "acceptSubmissions",
    JobKind.UNLOCK: "unlock",
    JobKind.EVALUATE_ROUND: "reportRound",
}
"""The jobs that send a transaction, and to which function."""

ASKED_AGAIN = frozenset({JobKind.OPEN_ROUND, JobKind.ACCEPT_SUBMISSIONS, JobKind.EVALUATE_ROUND})
"""The lender's: pending until final. An owner's job is done once its transaction is in owner-api's outbox."""

GROWS_WITH_COHORT = frozenset({"reportRound"})
"""It credits every member: for larger cohorts its gas is scaled by their size, which is an upper bound."""

LENDER, OWNERS, TRAINERS = "lender's coordinators", "owners' coordinators", "trainers"


class PlanImpossible(Exception):
    """No amount of waiting helps."""


@dataclass(frozen=True)
class Figures:
    """Measured. Gas per call at cohorts of `members`; mean seconds that one attempt at a job holds a place, the trainer's part aside."""

    members: int
    gas: Mapping[str, float]
    gradient_bytes: float
    round_bytes: float
    attempt_seconds: Mapping[JobKind, float]
    gradient_seconds: float

    def gas_of(self, function: str, cohort: int) -> float:
        """Raises KeyError for a function that was not measured."""
        return self.gas[function] * (max(1.0, cohort / self.members) if function in GROWS_WITH_COHORT else 1.0)


@dataclass(frozen=True)
class Plan:
    """`nodes` hold the owners evenly, one more holds the lender of all models. Coordinators and trainers are counted per node."""

    owners: int
    models: int
    cohort: int
    rounds: int
    nodes: int
    coordinators: int
    places: int
    trainers: int
    processes: int
    block_seconds: float
    final_seconds: float
    block_gas: float

    @property
    def in_flight(self) -> int:
        """Members of the rounds that run at one time: one cohort of each model."""
        return self.models * self.cohort


@dataclass
class Outcome:
    """What happened, in seconds of the simulated clock. `busy` are place-seconds by resource, all nodes together.

    `longest_step`: from the event that asks for a step of a round until the event that ends it is final, by the step's kind of job. The
    windows of a model's terms have to be longer.
    """

    seconds: float = 0.0
    round_seconds: list[float] = field(default_factory=list)
    attempts: Counter[JobKind] = field(default_factory=Counter)
    jobs: Counter[JobKind] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    gas: float = 0.0
    blocks: list[float] = field(default_factory=list)
    ipfs_bytes: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    longest_wait: dict[str, float] = field(default_factory=dict)
    longest_step: dict[JobKind, float] = field(default_factory=lambda: defaultdict(float))


class Chain:
    """Blocks at a fixed pace, transactions in the order of their arrival, as much gas as a block takes; final so much later."""

    def __init__(self, clock: Clock, plan: Plan, outcome: Outcome) -> None:
        self._clock, self._plan, self._outcome = clock, plan, outcome
        self._pending: deque[tuple[float, Signal]] = deque()

    def send(self, function: str, gas: float) -> Signal:
        """Fires when the transaction is final. Raises PlanImpossible when no block can hold it."""
        if gas > self._plan.block_gas:
            raise PlanImpossible(f"{function} needs {gas:,.0f} gas, a block holds {self._plan.block_gas:,.0f}: make cohorts smaller")
        self._outcome.calls[function] += 1
        final = Signal()
        self._pending.append((gas, final))
        if len(self._pending) == 1:
            self._clock.spawn(self._blocks())
        return final

    def _blocks(self) -> Steps:
        pace = self._plan.block_seconds
        while self._pending:
            yield self._clock.after((math.floor(self._clock.now / pace) + 1) * pace - self._clock.now)
            used, included = 0.0, []
            while self._pending and used + self._pending[0][0] <= self._plan.block_gas:
                gas, final = self._pending.popleft()
                used += gas
                included.append(final)
            self._outcome.gas += used
            self._outcome.blocks.append(used)
            self._clock.spawn(self._finality(included))

    def _finality(self, included: list[Signal]) -> Steps:
        yield self._clock.after(self._plan.final_seconds)
        for final in included:
            final.fire()


class Market:
    """Everybody at work."""

    def __init__(self, plan: Plan, figures: Figures) -> None:
        self._plan, self._figures = plan, figures
        self.outcome, self._clock = Outcome(), Clock()
        self._chain = Chain(self._clock, plan, self.outcome)
        of_node = plan.coordinators * plan.places
        self._lender = Places(self._clock, of_node)
        self._owners = [Places(self._clock, of_node) for _ in range(plan.nodes)]
        self._trainers = [Places(self._clock, plan.trainers * plan.processes) for _ in range(plan.nodes)]

    def run(self) -> Outcome:
        """Every model, all its rounds. Raises PlanImpossible."""
        for model in range(self._plan.models):
            self._clock.spawn(self._model(model))
        self._clock.run()
        self.outcome.seconds = self._clock.now
        for name, group in ((LENDER, [self._lender]), (OWNERS, self._owners), (TRAINERS, self._trainers)):
            self.outcome.busy[name] = sum(places.busy for places in group)
            self.outcome.longest_wait[name] = max(places.longest_wait for places in group)
        return self.outcome

    def _model(self, model: int) -> Steps:
        members = range(model * self._plan.cohort, (model + 1) * self._plan.cohort)
        for _ in range(self._plan.rounds):
            begun = self._clock.now
            yield from self._round([member % self._plan.nodes for member in members])
            self.outcome.round_seconds.append(self._clock.now - begun)

    def _round(self, nodes: list[int]) -> Steps:
        """`nodes` of the members. A step begins when the one before is final; a member's job also waits for the same member's last."""
        yield from self._step(JobKind.OPEN_ROUND, [self._of_lender(JobKind.OPEN_ROUND)])
        contributed = [self._of_owner(JobKind.CONTRIBUTE, node) for node in nodes]
        yield from self._step(JobKind.CONTRIBUTE, contributed)
        yield from self._step(JobKind.ACCEPT_SUBMISSIONS, [self._of_lender(JobKind.ACCEPT_SUBMISSIONS)])
        unlocked = [self._of_owner(JobKind.UNLOCK, node, last) for node, (_, last) in zip(nodes, contributed, strict=True)]
        yield from self._step(JobKind.UNLOCK, unlocked)
        yield from self._step(JobKind.EVALUATE_ROUND, [self._of_lender(JobKind.EVALUATE_ROUND)])
        for node, (_, last) in zip(nodes, unlocked, strict=True):
            self._of_owner(JobKind.CONCLUDE_CONTRIBUTION, node, last)
        self.outcome.ipfs_bytes += self._figures.round_bytes + len(nodes) * self._figures.gradient_bytes

    def _step(self, kind: JobKind, jobs: Iterable[tuple[Signal, Signal]]) -> Steps:
        begun = self._clock.now
        for final, _ in jobs:
            yield final
        self.outcome.longest_step[kind] = max(self.outcome.longest_step[kind], self._clock.now - begun)

    def _of_lender(self, kind: JobKind) -> tuple[Signal, Signal]:
        return self._job(kind, self._lender, None, None)

    def _of_owner(self, kind: JobKind, node: int, last: Signal | None = None) -> tuple[Signal, Signal]:
        return self._job(kind, self._owners[node], self._trainers[node] if kind is JobKind.CONTRIBUTE else None, last)

    def _job(self, kind: JobKind, coordinators: Places, trainers: Places | None, last: Signal | None) -> tuple[Signal, Signal]:
        """(its transaction is final, the job is over)."""
        final = Signal()
        return final, self._clock.spawn(self._attempts(kind, coordinators, trainers, last, final))

    def _attempts(self, kind: JobKind, coordinators: Places, trainers: Places | None, last: Signal | None, final: Signal) -> Steps:
        if last is not None:
            yield last
        self.outcome.jobs[kind] += 1
        yield from self._attempt(kind, coordinators, trainers)
        if kind not in SENT_BY:
            return
        function, is_final = SENT_BY[kind], False

        def arrived() -> None:
            nonlocal is_final
            is_final = True
            final.fire()

        self._chain.send(function, self._figures.gas_of(function, self._plan.cohort)).then(arrived)
        for attempt in count(1) if kind in ASKED_AGAIN else ():
            yield self._clock.after(delay(attempt))
            if is_final:  # by now the job is superseded, and no attempt is made
                return
            yield from self._attempt(kind, coordinators, None)

    def _attempt(self, kind: JobKind, coordinators: Places, trainers: Places | None) -> Steps:
        self.outcome.attempts[kind] += 1
        yield from coordinators.hold(lambda: self._work(kind, trainers))

    def _work(self, kind: JobKind, trainers: Places | None) -> Steps:
        yield self._clock.after(self._figures.attempt_seconds[kind])
        if trainers is not None:  # the coordinator's place is held while the trainer computes
            yield from trainers.hold(self._gradient)

    def _gradient(self) -> Steps:
        yield self._clock.after(self._figures.gradient_seconds)
