"""Rounds that are not like the others, through all real services: an owner alone, members that add noise, silent members, a silent lender,
killed processes."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from lender_node import loans
from whole_stack import BASE_FEE, BOND, BOUNTY, VALIDATION_ROWS, VALIDATION_SEED, WINDOW, WholeStack, eventually, running_stack

from devstack.demo.parties import DataOwner, RequestRefused
from devstack.demo.target import real
from devstack.stack import DATABASE
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.events import (
    CohortClosed,
    Credited,
    GradientSubmitted,
    MemberJoined,
    MemberUnlocked,
    ModelClosed,
    RoundDefaulted,
    RoundFailed,
    RoundOpened,
    RoundSettled,
    RoundUnlockFailed,
    SubmissionsAccepted,
    UnlocksCompleted,
)
from hessian.chain.records import CreditReason, ModelState, RoundState
from hessian.identifiers import ModelId, digest_to_hex
from hessian.learning.affine import descend, descend_float64, gradient_map, initial_weights
from hessian.learning.objective import STEP_BITS
from hessian.learning.rows import read_batches, text_lines
from trainer.statistics import statistics_of

ROUNDS = 3
CREW = {"ash": 160, "beech": 140}
NOISY = {"elm": 1_500, "fir": 1_250}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[WholeStack]:
    with running_stack(tmp_path_factory.mktemp("wrong") / "stack") as whole:
        yield whole


def test_cohort_of_one__confirmed_by_its_owner__runs_from_enrolment_to_payment(whole: WholeStack) -> None:
    owner = whole.owner("alone", 200, seed=7)
    model = whole.open_model(cohort_size=1, max_rounds=1)
    model_id = ModelId(model["model_id"])
    with pytest.raises(RequestRefused, match=r"409 .*nothing hides this owner .* accept_alone"):
        owner.enrol(model_id)
    assert whole.events(MemberJoined, model_id) == []
    owner.enrollment_id = owner.post("/v1/enrollments", {"model_id": model_id, "dataset_id": owner.dataset_id, "accept_alone": True})["id"]

    settled = whole.event(RoundSettled, model_id)
    assert settled.new_error < model["initial_error"]
    assert settled.pool == settled.reward + BASE_FEE > BASE_FEE
    whole.enrolled(owner, "closed")
    assert whole.model_in(model["id"], "exhausted")["best_error"] == settled.new_error
    assert whole.contribution(owner, "settled")["earned_wei"] == str(settled.pool)
    whole.event(ModelClosed, model_id, final=True)
    before = int(owner.get("/v1/earnings")["balance_wei"])
    whole.withdraw(owner)
    earnings = owner.get("/v1/earnings")
    assert (earnings["earned_wei"], earnings["credit_wei"]) == (str(settled.pool), "0")
    assert int(earnings["balance_wei"]) > before + BOND  # the reward pays for the gas by far
    whole.require_conserved(model_id)


def test_model__that_requires_differential_privacy__learns_from_one_noisy_release_of_each_member(whole: WholeStack) -> None:
    model = whole.open_model(cohort_size=2, max_rounds=2, privacy={"epsilon": "4"})
    model_id, manifest = ModelId(model["model_id"]), whole.manifest(model)
    weights = whole.lender.get(f"/v1/models/{model['id']}/weights")["weights"]
    owners = [whole.owner(name, rows, seed=rows) for name, rows in NOISY.items()]
    for owner in owners:
        owner.enrol(model_id)

    assert whole.event(RoundSettled, model_id, 2).new_error < model["initial_error"]
    for owner in owners:
        privacy, spent = whole.enrolled(owner, "closed")["privacy"], owner.get("/v1/earnings")["privacy"]
        assert 0 < Decimal(privacy["epsilon_cohort"]) < Decimal(privacy["epsilon_local"]) <= 4
        assert [(one["releases"], one["epsilon"]) for one in spent] == [(1, privacy["epsilon_local"])]  # one release, whatever the rounds

    whole.model_in(model["id"], "exhausted")
    assert manifest.privacy is not None
    clip_norm, total = manifest.privacy.clip_norm, sum(NOISY.values())
    shards = [loans(rows, seed=rows).encode() for rows in NOISY.values()]
    exact = [statistics_of([shard], manifest.specification, clip_norm=clip_norm) for shard in shards]
    maps = [gradient_map(part, total, manifest.specification.feature_bits, manifest.bounds) for part in exact]
    for _ in range(2):
        opened = [sum(entries) for entries in zip(*(one.at(weights) for one in maps), strict=True)]
        weights = descend(weights, opened, manifest.step, manifest.bounds)
    found = whole.lender.get(f"/v1/models/{model['id']}/weights")["weights"]
    assert found != weights
    assert max(abs(a - b) for a, b in zip(found, weights, strict=True)) < 1 << manifest.bounds.weight_bits  # noise, not nonsense
    whole.require_conserved(model_id)


def test_member__silent_while_submitting__loses_its_bond_to_the_owner_whose_rows_stay_free(whole: WholeStack) -> None:
    owner, bare = whole.owner("faithful", 200, seed=8), whole.stack.anvil.new_account()
    asked = [whole.ask_for_model(cohort_size=2, max_rounds=2) for _ in range(2)]
    model, other = [whole.model_in(identity, "open") for identity in asked]
    model_id = ModelId(model["model_id"])
    owner.enrol(model_id)
    whole.enrolled(owner, "waiting")
    whole.market.send(bare, "join", model_id, whole.market.forming_cohort(model_id), os.urandom(32), 200, value=BOND)
    submitted = whole.event(GradientSubmitted, model_id, final=True)
    assert submitted.member == owner.address
    assert whole.events(RoundFailed, model_id) == []
    assert _secrets_of(whole, owner) == (1, 2)

    whole.stack.anvil.move_time(WINDOW + 1)
    failed = whole.event(RoundFailed, model_id, final=True)
    assert failed.from_state is RoundState.SUBMITTING
    sender = whole.stack.anvil.call("eth_getTransactionByHash", failed.place.transaction_hash)["from"]
    assert sender.lower() in {owner.address.lower(), whole.lender.address.lower()}
    booked = [(event.account, event.reason, event.amount) for event in whole.events(Credited, model_id)]
    assert booked == [(owner.address, CreditReason.BOND, BOND), (owner.address, CreditReason.FORFEIT, BOND)]
    assert whole.market.read("model", model_id)["escrow"] == BOUNTY + 2 * BASE_FEE
    assert whole.enrolled(owner, "closed")["reason"] == "the cohort is closed"
    assert whole.contribution(owner, "failed")["reason"] == "the round ended as failed"
    assert _secrets_of(whole, owner) == (0, 0)
    assert int(eventually(lambda: owner.get("/v1/earnings"), lambda read: read["credit_wei"] != "0")["credit_wei"]) == 2 * BOND

    assert whole.events(MemberUnlocked, model_id) == []
    owner.enrol(ModelId(other["model_id"]))
    whole.enrolled(owner, "waiting")
    owner.post(f"/v1/enrollments/{owner.enrollment_id}/leave")
    whole.enrolled(owner, "closed")
    whole.require_conserved(model_id)
    whole.require_conserved(ModelId(other["model_id"]))


def test_lender__hangs_while_evaluating__the_owners_expire_the_round_and_take_the_bounty(whole: WholeStack) -> None:
    owners = [whole.owner("left", 210, seed=9), whole.owner("right", 190, seed=10)]
    model = whole.open_model(cohort_size=2, max_rounds=2)
    model_id = ModelId(model["model_id"])
    for owner in owners:
        owner.enrol(model_id)
    whole.event(SubmissionsAccepted, model_id)
    with _hanging(whole, "lender-api"):
        whole.event(UnlocksCompleted, model_id, final=True)
        whole.stack.anvil.move_time(WINDOW + 1)
        defaulted = whole.event(RoundDefaulted, model_id, final=True)
        assert defaulted.pool == BOUNTY + BASE_FEE
        paid = {event.account: event.amount for event in whole.credited(model_id, CreditReason.REWARD)}
        assert sum(paid.values()) == defaulted.pool
        assert abs(paid[owners[0].address] - defaulted.pool * 210 // 400) <= 1
        assert {event.account for event in whole.credited(model_id, CreditReason.BOND)} == {owner.address for owner in owners}
        for owner in owners:
            whole.enrolled(owner, "closed")
            assert whole.contribution(owner, "settled")["earned_wei"] == str(paid[owner.address])
        whole.withdraw(*owners)
    assert whole.model_in(model["id"], "defaulted")["reason"] is None
    assert whole.event(ModelClosed, model_id, final=True).refund == BASE_FEE
    assert whole.events(RoundSettled, model_id) == []
    whole.require_conserved(model_id)


def test_training__each_service_killed_once__reaches_its_rounds_and_pays_each_exactly_once(whole: WholeStack) -> None:
    owners = [whole.owner(name, rows, seed=rows) for name, rows in CREW.items()]
    model = whole.open_model(cohort_size=len(owners), max_rounds=ROUNDS)
    model_id, calls = ModelId(model["model_id"]), whole.calls()
    for owner in owners:
        owner.enrol(model_id)
    whole.begun("contribute", whole.event(RoundOpened, model_id).round_id)
    whole.kill("trainer")
    whole.event(SubmissionsAccepted, model_id)
    whole.kill("coordinator")
    whole.event(GradientSubmitted, model_id, len(owners) + 1)
    whole.kill("owner-api")
    whole.begun("evaluate_round", whole.event(UnlocksCompleted, model_id, 2).round_id)
    whole.kill("lender-api")
    whole.event(ModelClosed, model_id, final=True)
    for owner in owners:
        whole.enrolled(owner, "closed")
    whole.event(CohortClosed, model_id, final=True)

    settled = whole.events(RoundSettled, model_id)
    assert [event.round_id for event in settled] == [event.round_id for event in whole.events(RoundOpened, model_id)]
    assert (len(settled), settled[-1].model_state) == (ROUNDS, ModelState.EXHAUSTED)
    assert [*whole.events(RoundFailed, model_id), *whole.events(RoundUnlockFailed, model_id)] == []
    for event in settled:
        shares = [at for at in whole.credited(model_id, CreditReason.REWARD) if at.place.transaction_hash == event.place.transaction_hash]
        assert (sum(share.amount for share in shares), len(shares)) == (event.pool, len(owners))
    _require_one_digest(whole, model_id, owners)
    each = ROUNDS * len(owners)
    sent = {"openRound": ROUNDS, "submitGradient": each, "acceptSubmissions": ROUNDS, "unlock": each, "reportRound": ROUNDS}
    assert whole.calls() - calls == Counter(sent | {"join": len(owners), "leave": 1, "closeModel": 1})  # nothing twice, nothing reverted
    assert set(whole.coordinator.get("/v1/status")["jobs"].items()) >= {("set_aside", 0)}
    whole.withdraw(whole.lender, *owners)
    whole.require_conserved(model_id)
    _require_replay(whole, model)


def _secrets_of(whole: WholeStack, owner: DataOwner) -> tuple[int, int]:
    """How many of an owner's contributions hold u_i, and how many of its enrolments hold statistics or a masking key."""
    seeds = "SELECT count(sealed_seed) FROM owner.contributions WHERE member = %s"
    others = (
        "SELECT count(sealed_statistics) + count(sealed_masking_secret) FROM owner.enrollments e "
        "JOIN owner.owners o ON o.id = e.owner_id WHERE o.address = %s"
    )
    with whole.stack.postgres.connect(DATABASE) as connection:
        found = [connection.execute(query, [owner.address]).fetchone() for query in (seeds, others)]
    return int(str((found[0] or ())[0])), int(str((found[1] or ())[0]))


@contextmanager
def _hanging(whole: WholeStack, name: str) -> Iterator[None]:
    """A service that neither answers nor ends."""
    pid = whole.stack.services[name].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _require_one_digest(whole: WholeStack, model_id: ModelId, owners: list[DataOwner]) -> None:
    anchored = {(event.round_id, event.member): digest_to_hex(event.gradient_digest) for event in whole.events(GradientSubmitted, model_id)}
    kept = {(row["round_id"], owner.address): row["gradient_digest"] for owner in owners for row in owner.get("/v1/contributions")["items"]}
    assert kept == anchored
    assert len(set(anchored.values())) == len(whole.events(GradientSubmitted, model_id)) == len(whole.events(MemberUnlocked, model_id))


def _require_replay(whole: WholeStack, model: dict[str, str]) -> None:
    """The weights are those of the same updates in float64 on all rows in one place."""
    manifest = whole.manifest(model)
    x, y = _matrix(manifest, *(loans(rows, seed=rows) for rows in CREW.values()))
    _, validation = _matrix(manifest, loans(VALIDATION_ROWS, seed=VALIDATION_SEED))
    start = initial_weights(int(validation.sum()), len(validation), manifest.dimension, manifest.bounds)
    first = np.array(start) / 2.0**manifest.bounds.weight_bits
    replayed = descend_float64(x, y, first, manifest.step / 2.0**STEP_BITS, ROUNDS)[-1]
    trained = whole.lender.get(f"/v1/models/{model['id']}/weights")
    assert np.abs(np.array(trained["weights"]) / 2.0 ** trained["scale_bits"] - replayed).max() < 1e-5


def _matrix(manifest: ModelManifest, *tables: str) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], ...]:
    batches = [batch for csv in tables for batch in read_batches(text_lines([csv.encode()]), manifest.specification)]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return real(x, manifest.specification.feature_bits), y.astype(np.float64)
