"""Loans asked for through all real services: a model is trained and deployed, borrowers apply, their own clients accept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from lender_node import loans
from whole_stack import VALIDATION_ROWS, VALIDATION_SEED, WINDOW, WholeStack, eventually, running_stack

from devstack.demo.parties import DataOwner, RequestRefused, Rest
from devstack.services import SERVICES
from hessian.artifacts.scoring_model import ScoringModel
from hessian.identifiers import ModelId, Wei, digest_from_hex
from hessian.ipfs.cid import cid_of
from hessian.learning.application import encode_features, read_features
from hessian.learning.metrics import scores
from hessian.lending.decision import decide

FEE = 10**15
POLICY = {
    "cutoff_bps": 4000, "lgd_bps": 5000, "funding_bps": 300, "margin_bps": 200, "cap_bps": 6000, "tier_step_bps": 50,
    "quote_valid_seconds": 86_400, "quote_period_seconds": 86_400, "reasons": {"rate": "The rate asked for is high"},
}  # fmt: skip
GOOD = {"amount": 5000, "rate": "3.5", "term": "36"}
BAD = {"amount": 5000, "rate": "29.5", "term": "60"}


@dataclass(repr=False)
class Market:
    """A trained model that is served."""

    whole: WholeStack
    model: dict[str, Any]
    deployment: dict[str, Any]

    def borrower(self, name: str) -> DataOwner:
        """An account of the owner's node with ether and no data."""
        with Rest(self.whole.stack.url("owner-api"), self.whole.stack.token("admin")) as admin:
            made = self.whole.closing.enter_context(DataOwner(self.whole.stack.url("owner-api"), admin.post("/v1/owners", {"name": name})))
        self.whole.stack.anvil.give(made.address, Wei(10**18))
        return made

    def apply(self, borrower: DataOwner, features: dict[str, Any], mode: str = "private") -> str:
        wish = {"deployment_id": self.deployment["deployment_id"], "mode": mode, "max_fee_wei": str(FEE), "features": features}
        return str(borrower.post("/v1/applications", wish)["id"])

    def until(self, borrower: DataOwner, application: str, *states: str) -> dict[str, Any]:
        return dict(eventually(lambda: borrower.get(f"/v1/applications/{application}"), lambda found: found["state"] in states))

    def to_lender(self, request_id: int, what: str, body: dict[str, Any]) -> httpx.Response:
        """What the borrower's own client sends to the lender: no token."""
        return httpx.post(f"{self.whole.stack.url('lender-api')}/v1/requests/{request_id}/{what}", json=body, timeout=60.0, trust_env=False)

    def plain_decision(self, features: dict[str, Any]) -> Any:
        """On plaintext features rounded to the scoring scale, with the lender's own weights."""
        with httpx.Client(base_url=self.whole.stack.url("block-store"), timeout=30.0, trust_env=False) as store:
            data = store.post("/api/v0/cat", params={"arg": cid_of(digest_from_hex(self.deployment["scoring_digest"]))}).content
        scoring, manifest = ScoringModel.from_bytes(data), self.whole.manifest(self.model)
        specification = manifest.specification
        entries = encode_features(scoring.scale, specification, read_features(specification, features))
        weights = self.whole.lender.get(f"/v1/models/{self.model['id']}/weights")["weights"]
        [score] = scores(scoring.scale.weights(weights, manifest.bounds.weight_bits), np.array([entries]))
        return decide(scoring.policy, scoring.calibration, score)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, built_contracts: Path) -> Iterator[Market]:
    with running_stack(tmp_path_factory.mktemp("quotes") / "stack") as whole:
        base_rate = loans(VALIDATION_ROWS, seed=VALIDATION_SEED).count("bad") / VALIDATION_ROWS
        target = int(0.999e9 * base_rate * (1 - base_rate))  # the first round reaches it
        identity = whole.ask_for_model(cohort_size=2, max_rounds=3, target_error=target)
        model_id = ModelId(whole.model_in(identity, "open")["model_id"])
        for name, rows, seed in (("ash", 160, 7), ("beech", 140, 8)):
            whole.owner(name, rows, seed=seed).enrol(model_id)
        model = whole.model_in(identity, "trained")
        wish = {"model": identity, "policy": POLICY, "fee_wei": str(FEE), "answer_window": WINDOW}
        made = whole.lender.post("/v1/deployments", wish)["id"]
        deployment = eventually(lambda: whole.lender.get(f"/v1/deployments/{made}"), lambda found: found["state"] == "serving")
        yield Market(whole, model, dict(deployment))


def test_apply__privately__quote_equals_the_plaintext_decision_and_the_accepted_one_is_confirmed(market: Market) -> None:
    good, bad = market.borrower("good"), market.borrower("bad")
    approved, declined = market.apply(good, GOOD), market.apply(bad, BAD)
    for borrower, application, features, word in ((good, approved, GOOD, "approve"), (bad, declined, BAD, "decline")):
        found = market.until(borrower, application, "quoted")
        plain = market.plain_decision(features)
        quote = found["quote"]
        assert (quote["decision"], quote["rate_bps"], quote["pd_bps"]) == (word, plain.rate_bps, plain.pd_bps)
    shown = good.post(f"/v1/applications/{approved}/acceptance")
    confirmed = market.to_lender(shown["request_id"], "acceptance", shown["opening"])
    assert confirmed.status_code == 200, confirmed.text
    seen = market.whole.lender.get(f"/v1/requests/{shown['request_id']}")
    terms = confirmed.json()
    assert (seen["state"], seen["rate_bps"], seen["accepted_at"]) == ("answered", terms["rate_bps"], terms["accepted_at"])
    assert market.whole.coordinator.get("/v1/jobs", state="set_aside")["items"] == []


def test_apply__feature_out_of_its_range__is_refused_by_name_before_anything_is_sent(market: Market) -> None:
    borrower = market.borrower("out of range")
    with pytest.raises(RequestRefused, match=r"422 .*rate"):
        market.apply(borrower, GOOD | {"rate": "41"})
    assert borrower.get("/v1/applications")["items"] == []


def test_apply__openly__the_decline_comes_with_its_reasons(market: Market) -> None:
    borrower = market.borrower("open")
    application = market.apply(borrower, BAD, mode="open")
    market.until(borrower, application, "waiting")
    shown = borrower.get(f"/v1/applications/{application}/open-application")
    told = eventually(lambda: market.to_lender(shown["request_id"], "assessment", shown["application"]), lambda answer: answer.is_success)
    assert "decision" not in told.json()
    quote = market.until(borrower, application, "quoted")["quote"]
    assert (quote["decision"], quote["reasons"]) == ("decline", ["The rate asked for is high"])


def test_apply__lender_never_answers__the_fee_comes_back_by_itself(market: Market) -> None:
    borrower, stack = market.borrower("patient"), market.whole.stack
    stack.services["lender-api"].stop(grace=5.0)
    application = market.apply(borrower, GOOD)
    market.until(borrower, application, "waiting")
    stack.anvil.move_time(WINDOW + 1)
    market.until(borrower, application, "expired")
    assert borrower.get("/v1/earnings")["fees_credit_wei"] == str(FEE)
    service = next(one for one in SERVICES if one.name == "lender-api")
    stack.start_service(service)
    stack.wait_for(service)
    withdrawal = borrower.post("/v1/withdrawals?contract=deployment")["id"]
    eventually(lambda: borrower.get(f"/v1/withdrawals/{withdrawal}"), lambda found: found["state"] == "final")
    assert borrower.get("/v1/earnings")["fees_credit_wei"] == "0"
